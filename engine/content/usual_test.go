package content

import (
	"strings"
	"testing"

	"tact/engine/definition"
)

// What usual gives for a tag is what the evaluation of the tag gives, and it gives
// nothing where that is refused: every filter over a variable of every type, with
// constants and variables as arguments.
func TestUsualEqualsTag(t *testing.T) {
	kinds := map[string]int{}
	all := variables()
	resolve := func(path string) (Source, bool) {
		for i, v := range all {
			if v.path == path {
				return Source{Space: SpaceUserAttr, ID: uint32(i), Type: v.kind}, true
			}
		}
		return Source{}, false
	}
	for _, s := range shapes() {
		for n := s.min; n <= s.max; n++ {
			for _, arg := range []string{"'a'", "user.first_name"} {
				for _, v := range all {
					call := s.name
					if n > 0 {
						call += ": " + strings.Join([]string{arg, "2"}[:n], ", ")
					}
					path := "user['" + strings.TrimPrefix(v.path, "user.") + "']"
					if v.path == "context.page" {
						path = v.path
					}
					for _, text := range []string{
						"{{ " + path + " }}", "{{ " + path + " | " + call + " }}",
						"{{ " + path + " | strip | " + call + " }}",
					} {
						tpl, faults := Compile(
							definition.Content{Type: "text", Body: stringNode(text)}, resolve)
						if len(faults) > 0 || len(tpl.parts) != 1 || tpl.parts[0].tag == nil {
							continue
						}
						values := make([]Value, len(tpl.sources))
						for i, s := range tpl.sources {
							values[i] = all[s.ID].value
						}
						kinds[compareUsual(t, text, tpl, values)]++
					}
				}
			}
		}
	}
	for _, want := range []string{"usual", "other", "refused"} {
		if kinds[want] < 30 {
			t.Errorf("%d tags were %s", kinds[want], want)
		}
	}
}

// compareUsual says what became of a template of one tag.
func compareUsual(t *testing.T, text string, tpl *Template, values []Value) string {
	t.Helper()
	tag := tpl.parts[0].tag
	quick, slow := render{values: values}, render{values: values}
	got := quick.usual(tag)
	want, err := slow.tag(tag)
	switch {
	case got == nil && quick.work != 0:
		t.Errorf("%s: work of %d without a text", text, quick.work)
	case got == nil && err != nil:
		return "refused"
	case got == nil:
		return "other"
	case err != nil || string(got) != string(want) || quick.work != slow.work:
		t.Errorf("%s: %.60q with work %d, want %.60q with %d, %v",
			text, got, quick.work, want, slow.work, err)
	}
	return "usual"
}
