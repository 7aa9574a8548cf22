package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// markedShop reads what the marks are planted in.
const markedShop = `kind: workspace
id: default
---
kind: attribute
id: first_name
type: string
class: personal
---
kind: event
id: ordered
properties: {note: {type: string, indexed: true}}
---
kind: segment
id: chosen
members: static
---
kind: cap
id: three_a_day
applies_to: {offers: all}
scope: person
per: offer
count_on: [impression]
window: {rolling: 24h}
limit: 3
---
kind: offer
id: hello
message_class: marketing
group: all
treatments:
  - {id: web, channel: web, placements: [home], content: {type: text, body: "{{ user.first_name }} {{ context.page }}"}}
---
kind: placement
id: home
channel: web
policy: all
context: {page: string}
---
kind: decision_policy
id: all
ranking: {by: product}
`

// marks are the needles: one of 16 random hexadecimal digits a person, which stands
// in everything that is said of the person.
type marks struct {
	all  []string
	find map[uint64]string // by their first eight bytes
}

func newMarks(n int, seed uint64) *marks {
	m := &marks{find: map[uint64]string{}}
	r := rand.New(rand.NewPCG(seed, 1))
	for len(m.all) < n {
		mark := fmt.Sprintf("%016x", r.Uint64())
		m.all = append(m.all, mark)
		m.find[binary.LittleEndian.Uint64([]byte(mark))] = mark
	}
	return m
}

// in counts the marks in b, and gives the place of the first.
func (m *marks) in(b []byte) (n, first int) {
	for i := 0; i+16 <= len(b); i++ {
		mark, ok := m.find[binary.LittleEndian.Uint64(b[i:])]
		if ok && string(b[i:i+16]) == mark {
			if n++; n == 1 {
				first = i
			}
		}
	}
	return n, first
}

// below looks at every byte of every file in folders, and at the names of the files.
func (m *marks) below(t *testing.T, folders ...string) (found []string) {
	t.Helper()
	for _, dir := range folders {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a server that is at work has removed it meanwhile
			}
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if strings.HasSuffix(path, ".tbk") {
				b = append(b, unpacked(t, b)...)
			}
			if n, at := m.in(b); n > 0 {
				from := bytes.ToValidUTF8(b[max(0, at-60):min(len(b), at+30)], []byte("?"))
				found = append(found, fmt.Sprintf("%s: %d, first at %d: %q", path, n, at, from))
			}
			if n, _ := m.in([]byte(path)); n > 0 {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// unpacked is what lies in the blocks of a file of a backup: see storage/FORMAT.md.
func unpacked(t *testing.T, b []byte) (out []byte) {
	t.Helper()
	in, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for b = b[36:]; len(b) > 20 && string(b[:4]) == "bblk"; {
		raw, stored := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
		block := b[20 : 20+stored]
		if raw == stored {
			out = append(out, block...)
		} else if out, err = in.DecodeAll(block, out); err != nil {
			t.Fatal(err)
		}
		b = b[20+stored:]
	}
	return out
}

// copyElsewhere forgets, by the ledger of one folder of backups, in a copy of it from
// before the erasures: a restore from there finds nobody's key.
func (m *marks) copyElsewhere(t *testing.T, backups, elsewhere string) {
	t.Helper()
	f := func(want int, part string, args ...string) {
		t.Helper()
		out, logs, code := tact(t, args...)
		if code != want || !strings.Contains(out+logs, part) {
			t.Fatalf("%v: exit code %d: %s%s", args, code, out, logs)
		}
	}
	restored := t.TempDir()
	restore := func(name string) []string {
		return []string{
			"restore", elsewhere, "--to", filepath.Join(restored, name), "--caps", "protect",
			"--erased", backups,
		}
	}
	f(exitUsage, "--offline", "erase", "ann", "--backups", elsewhere, "--offline")
	f(exitUsage, "--backups", "erase", "--offline")
	f(exitFailure, "no folder", "erase", "--backups", elsewhere+"-not", "--offline")
	f(exitOK, "0 keys, 0 claims and 0 names", "erase", "--backups", elsewhere, "--offline")
	forget := []string{"erase", "--backups", elsewhere, "--offline", "--erased", backups}
	f(exitOK, "ok: of 1,000 erased people, 1000 keys, ", forget...)
	f(exitOK, "ok: of 1,000 erased people, 0 keys, 0 claims and 0 names thrown out of 0 backups", forget...)
	f(exitOK, "0 erased since, 1000 without a key are left out", restore("after")...)
	for _, found := range m.below(t, elsewhere, restored) {
		t.Error(found)
	}
}

// plant writes people with their mark in everything that may be said of them.
func (m *marks) plant(t *testing.T, url, key string, all []string) {
	t.Helper()
	lines := func(path, format string) {
		t.Helper()
		var body strings.Builder
		for _, mark := range all {
			body.WriteString(strings.ReplaceAll(format, "%", mark) + "\n")
		}
		req, err := http.NewRequest("POST", url+path, strings.NewReader(body.String()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/x-ndjson")
		if status, reply := send(t, req); status != 200 || strings.Contains(reply, `"status":"rejected"`) {
			t.Fatalf("%s: %d %.500s", path, status, reply)
		}
	}
	lines("/v1/users", `{"user_id":"u-%","identities":[{"type":"email","value":"%@example.com"},`+
		`{"type":"device","value":"d-%"}],"attributes":{"first_name":"Ann %","note":"n %"},`+
		`"tags":["vip"],"consents":[{"purpose":"marketing","channel":"sms","granted":true,`+
		`"source":"s %","text_version":"t %"}],"addresses":{"email":"%@example.com","push":["p-%"]}}`)
	lines("/v1/events", `{"user_id":"u-%","event_id":"e-%","event":"ordered",`+
		`"properties":{"note":"o %","more":{"deep":["%"]}}}`)
	lines("/v1/events", `{"identities":[{"type":"email","value":"%@EXAMPLE.com"}],"event_id":"f-%",`+
		`"event":"ordered","properties":{"note":"o %"}}`)
	lines("/v1/segments/chosen/members", `{"user_id":"u-%"}`)
	for i, mark := range all {
		if i%7 != 0 {
			continue
		}
		status, reply := request(t, "POST", url+"/v1/decide", key, fmt.Sprintf(
			`{"request_id":"r-%[1]s","user":{"user_id":"u-%[1]s"},"placements":[{"key":"k-%[1]s",`+
				`"placement_id":"home"}],"context":{"page":"page %[1]s"},"timeout_us":1000000}`, mark))
		var d struct {
			Placements map[string]struct {
				Items []struct {
					Token string `json:"tracking_token"`
				}
			}
		}
		decodeJSON(t, reply, &d)
		if items := d.Placements["k-"+mark].Items; status != 200 || len(items) != 1 {
			t.Fatalf("decide: %d %s", status, reply)
		}
		request(t, "POST", url+"/v1/outcomes", key, fmt.Sprintf(
			`{"tracking_token":"%s","outcome":"impression","event_id":"o-%s"}`,
			d.Placements["k-"+mark].Items[0].Token, mark))
		// What is refused is answered with the mark, and must not be kept either.
		request(t, "POST", url+"/v1/decide", key, fmt.Sprintf(
			`{"user":{"user_id":"u-%[1]s"},"placements":[{"key":"k","placement_id":"%[1]s"}]}`, mark))
		request(t, "GET", url+"/v1/users/v-"+mark, key, "")
	}
}

// After an erasure no byte of the data folder, of the ring, of the server's log, of the
// receipts, of the server's backups from before and after, full and incremental, packed
// or not, holds a mark of those who were erased, and no key that opens what is sealed.
func TestEraseLeavesNoMark(t *testing.T) {
	config := folder(t, map[string]string{"shop.yaml": markedShop})
	data, ring, work, backups := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	if _, err := os.Stat(defaultRingDir); err == nil {
		if ring, err = os.MkdirTemp(defaultRingDir, "tact-test-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(ring) })
	}
	address := freeAddress(t)
	const key = "a-key-that-is-long-enough"
	serve := func() *running {
		r := start(t, []string{keyVariable + "=" + key}, "serve", "--data", data, "--listen", address,
			"--config", config, "--ring-dir", ring, "--backup-dir", backups)
		r.wait(r.stdout, "serving at")
		return r
	}
	r := serve()
	m := newMarks(1000, 5)
	kept := newMarks(20, 6)
	url := "http://" + address
	flags := []string{"--address", address, "--key", key}
	run := func(args ...string) string {
		t.Helper()
		out, logs, code := tact(t, append(args, flags...)...)
		if code != exitOK {
			t.Fatalf("%v: %d %s%s", args, code, out, logs)
		}
		return out
	}
	m.plant(t, url, key, m.all[:600])
	run("backup")
	m.plant(t, url, key, m.all[600:])
	kept.plant(t, url, key, kept.all)
	if said := run("backup"); !strings.Contains(said, "-incremental") {
		t.Fatal(said)
	}
	// What a copy of the backups that lies elsewhere tells before it is cleaned.
	elsewhere := filepath.Join(t.TempDir(), "backups")
	if err := os.CopyFS(elsewhere, os.DirFS(backups)); err != nil {
		t.Fatal(err)
	}
	one := run("export", "--user", "u-"+m.all[0], "-")
	if n, _ := m.in([]byte(one)); n < 12 || !strings.Contains(one, `"decisions":[{`) {
		t.Fatalf("an export holds %d marks: %s", n, one)
	}
	list := filepath.Join(t.TempDir(), "list") // it names people: not among what is searched
	text := "u-" + strings.Join(m.all[:990], "\nu-") + "\nnobody\n"
	for _, mark := range m.all[990:] {
		text += `{"identities":[{"type":"device","value":"d-` + mark + `"}]}` + "\n"
	}
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	receipts := filepath.Join(work, "receipts")
	said := run("erase", "--list", list, "--receipts", receipts, "--wait")
	if !strings.Contains(said, "1,000 erased, 0 erased before, 1 unknown, 0 rejected") {
		t.Fatal(said)
	}
	if again := run("erase", "--list", list, "--receipts", receipts); again != said {
		t.Fatalf("an erasure that had ended went on: %s", again)
	}
	look := func(when string) {
		t.Helper()
		for _, found := range m.below(t, data, ring, work, backups) {
			t.Errorf("%s: %s", when, found)
		}
		for _, log := range []*lines{r.stdout, r.stderr} {
			if n, at := m.in([]byte(log.String())); n > 0 {
				t.Errorf("%s: %d marks in the server's log: %.200q", when, n, log.String()[at-min(at, 100):])
			}
		}
	}
	look("after the purge")
	run("backup")
	if status, reply := request(t, "GET", url+"/v1/users/u-"+kept.all[3], key, ""); status != 200 ||
		!strings.Contains(reply, "t "+kept.all[3]) {
		t.Errorf("somebody else: %d %s", status, reply)
	}
	if code := r.end(syscall.SIGTERM); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	look("after the end")
	if out, logs, code := tact(t, "doctor", data, "--ring-dir", ring); code != exitOK {
		t.Fatalf("doctor: %d %s%s", code, out, logs)
	}
	m.copyElsewhere(t, backups, elsewhere)
	r = serve()
	run("backup")
	run("backup", "--full")
	look("after a start and more backups")
	one = run("erase", "u-"+kept.all[3], "--wait", "--backups", elsewhere)
	if !strings.Contains(one, "ok: of 1,001 erased people, 1 key, ") {
		t.Errorf("in backups elsewhere: %s", one)
	}
	if !strings.Contains(one, `"purged_at"`) || strings.Contains(one, kept.all[3]) {
		t.Errorf("%s", one)
	}
}
