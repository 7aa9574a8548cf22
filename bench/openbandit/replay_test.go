package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const head = ",timestamp,item_id,position,click,user_feature_0,user_feature_1,user_feature_2," +
	"user_feature_3\n"

// madeUp is a week of one busy person and one who comes seldom.
func madeUp() []impression {
	var rows []impression
	for i := range int64(600) {
		r := impression{
			at: 1_574_553_663_979 + i*971_003, person: "busy", item: fmt.Sprint("i", i%5),
			position: fmt.Sprint("p", 1+i%3), clicked: i%50 == 0,
		}
		if i%17 == 0 {
			r.person = "seldom"
		}
		rows = append(rows, r)
	}
	return rows
}

// Every answer of every shape is what a plain count over the log says.
func TestMadeUpWeek(t *testing.T) {
	for _, s := range shapes() {
		sum, err := replay(madeUp(), s)
		if err != nil || sum.different != 0 || sum.granted == 0 {
			t.Errorf("%s: %+v %v", s.name, sum, err)
		}
	}
}

// A shape whose count is off by one is noticed.
func TestReplayNoticesADifference(t *testing.T) {
	s := shapes()[0]
	s.full = rolling(3600, 1, 3)
	sum, err := replay(madeUp(), s)
	s.full = rolling(7200, 1, 1)
	more, err2 := replay(madeUp(), s)
	if err != nil || err2 != nil || sum.different+more.different == 0 {
		t.Fatalf("%+v %+v %v %v", sum, more, err, err2)
	}
}

// The real week: every file, every shape. The tuple of the four user features
// stands for the person.
func TestRealWeek(t *testing.T) {
	folder := filepath.Join(os.Getenv("TACT_DATA"), "open-bandit-small")
	if _, err := os.Stat(folder); err != nil || os.Getenv("TACT_DATA") == "" {
		t.Skip("no data: TACT_DATA is not set")
	}
	if err := run(folder); err != nil {
		t.Fatal(err)
	}
}

func TestParseImpressions(t *testing.T) {
	rows, err := parseImpressions(strings.NewReader(head +
		"0,2019-11-24 00:01:45.406608+00:00,9,3,1,a,b,c,d\n" +
		"1,2019-11-24 00:01:03.979311+00:00,2,2,0,a,b,c,e\n"))
	want := impression{1574553663979, "a-b-c-e", "i2", "p2", false}
	if err != nil || len(rows) != 2 || rows[0] != want || !rows[1].clicked {
		t.Fatalf("%+v %v", rows, err)
	}
	for _, bad := range []string{"", "timestamp\n", head + "0,noon,9,3,1,a,b,c,d\n", head + "0\n"} {
		if _, err := parseImpressions(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
