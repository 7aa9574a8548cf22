package storage

import (
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"testing"
	"time"
)

// populace fills groups with people who have 16 numbers, an id and an identity, ten of
// a number of tags, two events in their tail, and of whom one in four holds a
// reservation.
func populace(t testing.TB, groups, people, tags int) []*state {
	t.Helper()
	all := make([]*state, groups)
	random := rand.New(rand.NewPCG(1, 9))
	numbers := make([]AttrValue, 16)
	for g := range all {
		s := newState(GroupID(g), stateOptions{})
		all[g] = s
		apply := func(frame uint64, e *Effect) {
			t.Helper()
			if err := s.apply(frame, e); err != nil {
				t.Fatal(err)
			}
		}
		for i := range people / groups {
			o, frame := Ord(i), uint64(i+1)
			id := binary.LittleEndian.AppendUint64([]byte("person-"), uint64(i))
			apply(frame, &Effect{Kind: EffectCreate, Ord: o, Time: testDay, Create: CreateEffect{
				Workspace: 1, Slot: Slot(g), Person: PersonID(i + 1), ID: id, IDHash: random.Uint64(),
			}})
			for k := range numbers {
				numbers[k] = AttrValue{ID: Name(k + 1), Value: Value{Kind: KindInt, Num: random.Uint64N(1000)}}
			}
			held := make([]TagValue, 10)
			first := random.IntN(tags)
			for k := range held {
				held[k] = TagValue{ID: Name(1 + (first+k*tags/10)%tags)}
			}
			apply(frame, &Effect{Kind: EffectPatch, Ord: o, Time: testDay, Patch: &Patch{
				Attrs: numbers, TagsAdd: held,
			}})
			var hash [16]byte
			binary.LittleEndian.PutUint64(hash[:], random.Uint64())
			apply(frame, &Effect{Kind: EffectClaim, Ord: NoOrd, Claim: ClaimEffect{
				Workspace: 1, Hash: hash, Target: PersonRef{Group: GroupID(g), Ord: o, Person: PersonID(i + 1)},
			}})
			for k := range 2 {
				apply(frame, &Effect{
					Kind: EffectEvent, Ord: o, Time: testDay, DedupKey: random.Uint64() | 1,
					Event: EventEffect{Event: Name(1 + k), Occurred: testDay},
				})
			}
			if i%4 == 0 {
				now := secondOf(testDay)
				apply(frame, &Effect{Kind: EffectReserve, Ord: o, Time: testDay, Reserve: ReserveEffect{
					ID: ReservationID{1, uint64(i + 1)}, Granted: now, Expires: now + 600, Grace: 300,
					Keys: []HeldKey{personKey(3)},
				}})
			}
			s.touched = s.touched[:0]
		}
		// What the flusher takes is not resident.
		s.takeDirty(nil, s.dirtyCount())
		s.takeClaims()
		s.takeDedup()
	}
	return all
}

// heap is what a value holds on the heap, found by walking it.
type heap struct {
	seen          map[uintptr]bool
	plain, traced int64 // bytes of blocks without and with pointers
	byType        map[reflect.Type]int64
}

// pointers reports whether a value of the type has pointers in it.
func pointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() > 0 && pointers(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if pointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return false
	}
	return true
}

func (h *heap) block(elem reflect.Type, n int64) {
	if pointers(elem) {
		h.traced += n
		h.byType[elem] += n
	} else {
		h.plain += n
	}
}

// walk adds what v points at, blocks each once.
func (h *heap) walk(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map:
		if v.IsNil() || h.seen[v.Pointer()] {
			return
		}
		h.seen[v.Pointer()] = true
		if v.Kind() == reflect.Map {
			key, elem := v.Type().Key(), v.Type().Elem()
			size := int64(key.Size()+elem.Size()+1) * int64(v.Len()) * 2 // about: a map is half full
			if pointers(key) || pointers(elem) {
				h.block(v.Type(), size)
				for it := v.MapRange(); it.Next(); {
					h.walk(it.Key())
					h.walk(it.Value())
				}
			} else {
				h.plain += size
			}
			return
		}
		h.block(v.Type().Elem(), int64(v.Type().Elem().Size()))
		h.walk(v.Elem())
	case reflect.Interface:
		if !v.IsNil() {
			h.walk(v.Elem())
		}
	case reflect.Slice:
		if v.Cap() == 0 || h.seen[v.Pointer()] {
			return
		}
		h.seen[v.Pointer()] = true
		h.block(v.Type().Elem(), int64(v.Cap())*int64(v.Type().Elem().Size()))
		h.elements(v)
	case reflect.Array:
		h.elements(v)
	case reflect.Struct:
		for i := range v.NumField() {
			h.walk(v.Field(i))
		}
	}
}

func (h *heap) elements(v reflect.Value) {
	if pointers(v.Type().Elem()) {
		for i := range v.Len() {
			h.walk(v.Index(i))
		}
	}
}

// A collection does not look at people: of what a group holds in memory, found by
// walking it, nearly nothing lies in blocks with pointers; and the runtime says so
// too of all of it together.
func TestResidentPeopleHoldNoPointers(t *testing.T) {
	const people, tags = 40_000, 200
	before := scanned()
	all := populace(t, 2, people, tags)
	after := scanned()
	h := heap{seen: map[uintptr]bool{}, byType: map[reflect.Type]int64{}}
	for _, s := range all {
		h.walk(reflect.ValueOf(s))
	}
	if perPerson := h.plain / people; perPerson < 300 {
		t.Errorf("the walk has found only %d bytes a person", perPerson)
	}
	// Sets of tags lie in the slab; what is left does not grow with people.
	const bound = 2 * people
	if h.traced > bound {
		t.Errorf("%d bytes in blocks with pointers, %d without; by type: %v", h.traced, h.plain, h.byType)
	}
	if n := after - before; n > bound {
		t.Errorf("a collection looks at %d bytes more for %d people", n, people)
	}
	runtime.KeepAlive(all)
}

// scanned is how many bytes of the heap a collection looks at.
func scanned() int64 {
	runtime.GC()
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/scan/heap:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// BenchmarkCollection is one full collection with people in memory: processor time,
// the longest pause, bytes looked at a person. TACT_PEOPLE says how many (default
// 100,000), TACT_TAGS of how many tags each has ten (default 200).
func BenchmarkCollection(b *testing.B) {
	number := func(name string, n int) int {
		if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
			n = v
		}
		return n
	}
	people, tags := number("TACT_PEOPLE", 100_000), number("TACT_TAGS", 200)
	before := scanned()
	all := populace(b, 16, people, tags)
	looked := scanned() - before
	var held int64
	for _, s := range all {
		held += s.residentBytes()
	}
	cpu := make([]time.Duration, 0, b.N)
	var stats runtime.MemStats
	var pauses []uint64
	for b.Loop() {
		begun := processorTime(b)
		runtime.GC()
		cpu = append(cpu, processorTime(b)-begun)
		runtime.ReadMemStats(&stats)
		pauses = append(pauses, stats.PauseNs[(stats.NumGC+255)%256])
	}
	slices.Sort(cpu)
	b.ReportMetric(float64(cpu[0].Microseconds())/1e3, "cpu-ms-least")
	b.ReportMetric(float64(cpu[len(cpu)/2].Microseconds())/1e3, "cpu-ms-median")
	b.ReportMetric(float64(slices.MaxFunc(pauses, cmp.Compare))/1e3, "longest-pause-us")
	b.ReportMetric(float64(looked)/float64(people), "scanned-B/person")
	b.ReportMetric(float64(held)/float64(people), "resident-B/person")
	runtime.KeepAlive(all)
}
