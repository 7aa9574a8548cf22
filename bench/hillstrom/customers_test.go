package main

import (
	"encoding/csv"
	"reflect"
	"strings"
	"testing"
)

const header = "recency,segment,visit,conversion,spend\n"

func TestCopyCustomers(t *testing.T) {
	f := func(in string, want []customer, wantOut, wantErr string) {
		t.Helper()
		var out strings.Builder
		got, err := copyCustomers(csv.NewReader(strings.NewReader(in)), csv.NewWriter(&out))
		if wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), wantErr) {
				t.Errorf("error %v, want one with %q", err, wantErr)
			}
			return
		}
		if err != nil || !reflect.DeepEqual(got, want) || out.String() != wantOut {
			t.Errorf("%+v, %v\n%s", got, err, out.String())
		}
	}
	f(header+"10,Womens E-Mail,0,0,0\n6,No E-Mail,1,0,0\n7,Mens E-Mail,1,1,29.99\n",
		[]customer{
			{arm: "womens"},
			{arm: "none", visit: true},
			{arm: "mens", visit: true, converted: true, cents: 2999},
		},
		"id,recency,segment,visit,conversion,spend\nc1,10,Womens E-Mail,0,0,0\n"+
			"c2,6,No E-Mail,1,0,0\nc3,7,Mens E-Mail,1,1,29.99\n", "")
	f(header, nil, "id,recency,segment,visit,conversion,spend\n", "")
	f(header+"10,Womens E-Mail,0,0,0\n6,Pigeon,1,0,0\n", nil, "", `line 3: unknown segment "Pigeon"`)
	f(header+"10,No E-Mail,0,0,much\n", nil, "", "line 2: spend")
	f("recency,visit\n", nil, "", "columns segment")
	f("", nil, "", "EOF")
}

func TestEffort(t *testing.T) {
	f := func(share string, n, want int) {
		t.Helper()
		t.Setenv("TACT_EFFORT", share)
		if got := effort(n); got != want {
			t.Errorf("effort(%d) at %q = %d, want %d", n, share, got, want)
		}
	}
	f("", 64000, 64000)
	f("1", 64000, 64000)
	f("0.01", 64000, 640)
	f("0.01", 3, 1)
	f("much", 7, 7)
	f("-1", 7, 7)
}

func TestReplyArm(t *testing.T) {
	var r reply
	if r.arm() != "" {
		t.Error("a reply without assignments has an arm")
	}
}
