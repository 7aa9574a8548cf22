package wire

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"tact/engine"
	"tact/engine/definition"
)

// Bounds of one row group, which is what lies in memory at a time.
const (
	parquetRows  = 64 << 10
	parquetBytes = 16 << 20 // of ids and values
)

// Parquet writes people as a Parquet file: user_id (or identity.type and
// identity.value of somebody who has none), attributes.NAME with the declared
// type, tags.NAME: bool for a label, string for a tag with values. What a person
// has not is null; a tag of no value is false or null. bool, int64, double, UTF-8
// strings (semver too), DATE, TIMESTAMP in milliseconds of UTC, LIST of strings.
// The file's metadata tact.at, tact.config_version and tact.ordinals say when and
// by what it was judged.
//
// Rows go to row groups of at most 65,536 rows or 16 MiB; Take gives what
// is finished of the file, so that memory does not grow with the people.
type Parquet struct {
	w       *parquet.GenericWriter[any]
	out     bytes.Buffer
	columns []engine.ExportColumn
	leaves  []int // column index of user_id, identity.type, identity.value, then columns
	order   []int // positions in leaves, in the order of the file's columns
	row     parquet.Row
	rows    int
	bytes   int
}

// NewParquet begins a file.
func NewParquet(head *BulkHead, columns []engine.ExportColumn) *Parquet {
	p := &Parquet{columns: columns}
	optional := func(n parquet.Node) parquet.Node { return parquet.Optional(n) }
	root := parquet.Group{
		"user_id": optional(parquet.String()),
		"identity": parquet.Group{
			"type": optional(parquet.String()), "value": optional(parquet.String()),
		},
	}
	attributes, tags := parquet.Group{}, parquet.Group{}
	paths := [][]string{{"user_id"}, {"identity", "type"}, {"identity", "value"}}
	for i := range columns {
		c := &columns[i]
		group, name := attributes, "attributes"
		if c.Tag {
			group, name = tags, "tags"
		}
		group[c.Name] = optional(parquetNode(c.Type))
		path := []string{name, c.Name}
		if c.Type == definition.TypeList {
			path = append(path, "list", "element")
		}
		paths = append(paths, path)
	}
	if len(attributes) > 0 {
		root["attributes"] = attributes
	}
	if len(tags) > 0 {
		root["tags"] = tags
	}
	schema := parquet.NewSchema("people", root)
	for i, path := range paths {
		leaf, _ := schema.Lookup(path...)
		p.leaves, p.order = append(p.leaves, leaf.ColumnIndex), append(p.order, i)
	}
	slices.SortFunc(p.order, func(a, b int) int { return p.leaves[a] - p.leaves[b] })
	p.w = parquet.NewGenericWriter[any](&p.out, schema, parquet.Compression(&parquet.Snappy),
		parquet.CreatedBy("tact", "", ""),
		parquet.KeyValueMetadata("tact.at", string(appendTime(nil, head.At))),
		parquet.KeyValueMetadata("tact.config_version", strconv.Itoa(int(head.Revision))),
		parquet.KeyValueMetadata("tact.ordinals", head.Ordinals))
	return p
}

func parquetNode(t definition.AttrType) parquet.Node {
	switch t {
	case definition.TypeBool:
		return parquet.Leaf(parquet.BooleanType)
	case definition.TypeInt:
		return parquet.Int(64)
	case definition.TypeFloat:
		return parquet.Leaf(parquet.DoubleType)
	case definition.TypeDate:
		return parquet.Date()
	case definition.TypeTime:
		return parquet.Timestamp(parquet.Millisecond)
	case definition.TypeList:
		return parquet.List(parquet.String())
	}
	return parquet.String()
}

// Add writes one person. id is canonical, cells are in the order of the columns;
// both are copied.
func (p *Parquet) Add(id []byte, cells []engine.Cell) error {
	var user, kind, value []byte
	if user = id; len(id) > 0 && id[0] == 0 {
		user = nil
		kind, value, _ = bytes.Cut(id[1:], []byte{0})
	}
	p.row = p.row[:0]
	for _, i := range p.order {
		column := p.leaves[i]
		switch i {
		case 0:
			p.text(user, user != nil, column)
		case 1:
			p.text(kind, user == nil, column)
		case 2:
			p.text(value, user == nil, column)
		default:
			p.cell(&cells[i-3], p.columns[i-3].Type, column)
		}
	}
	p.bytes += len(id)
	if _, err := p.w.WriteRows([]parquet.Row{p.row}); err != nil {
		return err
	}
	if p.rows++; p.rows >= parquetRows || p.bytes >= parquetBytes {
		p.rows, p.bytes = 0, 0
		return p.w.Flush()
	}
	return nil
}

// text appends an optional text.
func (p *Parquet) text(b []byte, set bool, column int) {
	if !set {
		p.row = append(p.row, parquet.NullValue().Level(0, 0, column))
		return
	}
	p.row = append(p.row, parquet.ByteArrayValue(b).Level(0, 1, column))
}

// cell appends one value of a column.
func (p *Parquet) cell(c *engine.Cell, t definition.AttrType, column int) {
	p.bytes += len(c.Value.Bytes) + 8 // what is missing takes room too, until it is written
	if !c.Set {
		p.row = append(p.row, parquet.NullValue().Level(0, 0, column))
		return
	}
	var v parquet.Value
	switch t {
	case definition.TypeBool:
		v = parquet.BooleanValue(c.Value.Num != 0)
	case definition.TypeInt, definition.TypeTime:
		v = parquet.Int64Value(int64(c.Value.Num))
	case definition.TypeFloat:
		v = parquet.DoubleValue(math.Float64frombits(c.Value.Num))
	case definition.TypeDate:
		v = parquet.Int32Value(int32(int64(c.Value.Num)))
	case definition.TypeList:
		p.list(c.Value.Bytes, column)
		return
	default:
		v = parquet.ByteArrayValue(c.Value.Bytes)
	}
	p.row = append(p.row, v.Level(0, 1, column))
}

// list appends the elements of a list, each with its length in front.
func (p *Parquet) list(b []byte, column int) {
	if len(b) == 0 {
		p.row = append(p.row, parquet.NullValue().Level(0, 1, column))
		return
	}
	for repeated := 0; len(b) > 0; repeated = 1 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return
		}
		v := parquet.ByteArrayValue(b[size : size+int(n)])
		p.row = append(p.row, v.Level(repeated, 2, column))
		b = b[size+int(n):]
	}
}

// Close ends the file; Take gives the rest of it.
func (p *Parquet) Close() error { return p.w.Close() }

// Take appends what is finished of the file and not yet taken.
func (p *Parquet) Take(dst []byte) []byte {
	dst = append(dst, p.out.Bytes()...)
	p.out.Reset()
	return dst
}
