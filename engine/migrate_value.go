package engine

import (
	"math"
	"slices"
	"strconv"
	"time"

	"tact/engine/definition"
	"tact/storage"
)

// castValue makes a value of another type of v, as `migrate: cast` promises: what
// reads the same in both types is kept, everything else is lost. A whole float
// becomes an int, a text what it spells, everything a text, a date the time of its
// midnight UTC and a time its date in UTC. allowed is the closed list of a string
// attribute; empty = open. The result does not borrow from v.
func (vs *values) castValue(v storage.Value, to definition.AttrType, allowed []string) (
	storage.Value, bool,
) {
	const dayMs = 24 * 60 * 60 * 1000
	switch {
	case v.Kind == storage.KindDate && to == definition.TypeTime:
		return storage.Value{Kind: storage.KindTime, Num: uint64(int64(v.Num) * dayMs)}, true
	case v.Kind == storage.KindTime && to == definition.TypeDate:
		day := int64(v.Num) / dayMs
		if int64(v.Num)%dayMs < 0 {
			day--
		}
		return storage.Value{Kind: storage.KindDate, Num: uint64(day)}, true
	case v.Kind == storage.KindList:
		return storage.Value{}, false
	}
	text := valueText(v)
	raw := RawValue{Kind: RawString, Text: text}
	switch to {
	case definition.TypeBool:
		i := slices.Index([]string{"false", "true", "0", "1"}, string(text))
		raw = RawValue{Kind: RawBool, Bool: i%2 == 1}
		if i < 0 {
			return storage.Value{}, false
		}
	case definition.TypeInt, definition.TypeFloat:
		if v.Kind == storage.KindBool {
			text = strconv.AppendUint(nil, v.Num, 10)
		}
		raw = RawValue{Kind: RawNumber, Text: text}
	case definition.TypeList:
		raw = RawValue{Kind: RawList, List: [][]byte{text}}
	}
	out, problem := vs.typed(&raw, to, allowed)
	if problem != nil || to == definition.TypeFloat && math.IsNaN(math.Float64frombits(out.Num)) {
		return storage.Value{}, false
	}
	out.Bytes = slices.Clone(out.Bytes)
	return out, true
}

// valueText is how a value of any type but a list reads.
func valueText(v storage.Value) []byte {
	switch v.Kind {
	case storage.KindBool:
		return strconv.AppendBool(nil, v.Num == 1)
	case storage.KindInt:
		return strconv.AppendInt(nil, int64(v.Num), 10)
	case storage.KindFloat:
		return strconv.AppendFloat(nil, math.Float64frombits(v.Num), 'g', -1, 64)
	case storage.KindDate:
		return []byte(time.Unix(int64(v.Num)*86400, 0).UTC().Format(time.DateOnly))
	case storage.KindTime:
		return []byte(time.UnixMilli(int64(v.Num)).UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	return slices.Clone(v.Bytes)
}
