package wire

import "tact/engine/definition"

// Members is the body of POST /v1/segments/{id}/members: user ids.
type Members struct {
	Add    [][]byte
	Remove [][]byte
}

// Members reads the body of POST /v1/segments/{id}/members. The ids borrow
// from src and from d.
func (d *Decoder) Members(src []byte, m *Members) *Fault {
	r := &d.r
	r.reset(src)
	*m = Members{}
	var o object
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "add":
			m.Add = r.texts()
		case "remove":
			m.Remove = r.texts()
		default:
			r.unknown()
		}
	}
	return r.finish()
}

// Bundle is a definitions folder on its way in or out.
type Bundle struct {
	Note  string
	Files []definition.File
}

// Bundle reads {"note": …, "files": [{"name": …, "content": …}]}. It copies:
// the bundle does not borrow from src.
func (d *Decoder) Bundle(src []byte, b *Bundle) *Fault {
	r := &d.r
	r.reset(src)
	*b = Bundle{}
	var o object
	files := false
	r.object(&o)
	for r.member(&o) {
		switch string(o.key) {
		case "note":
			b.Note = string(r.text())
		case "files":
			files = true
			b.Files = r.files()
		default:
			r.unknown()
		}
	}
	if !files {
		r.missing("files")
	}
	return r.finish()
}

func (r *reader) files() []definition.File {
	var files []definition.File
	seen := map[string]bool{}
	r.list()
	for r.element() {
		var f definition.File
		var o object
		content := false
		r.object(&o)
		for r.member(&o) {
			switch string(o.key) {
			case "name":
				f.Name = string(r.filled())
			case "content":
				f.Content, content = append([]byte(nil), r.text()...), true
			default:
				r.unknown()
			}
		}
		switch {
		case f.Name == "":
			r.missing("name")
		case !content:
			r.missing("content")
		case seen[f.Name]:
			r.failIn("name", CodeInvalidValue, "another file has this name")
		}
		seen[f.Name] = true
		files = append(files, f)
	}
	return files
}
