package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// File is one file of a definitions folder; Name is slash-separated and
// relative to the folder.
type File struct {
	Name    string
	Content []byte
}

// Fault is one thing wrong with a definition. Line and Column count from 1; 0 =
// the whole file.
type Fault struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Document string `json:"document"` // kind/id
	Field    string `json:"field"`
	Detail   string `json:"detail"`
	Suggest  string `json:"suggest"`
}

// TestOutcome is the result of one test document.
type TestOutcome struct {
	ID       string   `json:"id"`
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Passed   bool     `json:"passed"`
	Expected string   `json:"expected"`
	Got      string   `json:"got"`
	Trace    []string `json:"trace"`
}

// Revision is one published state of all definitions. Restores is the revision
// whose content a rollback repeats, or 0.
type Revision struct {
	Number   uint32    `json:"revision"`
	At       time.Time `json:"at"`
	Author   string    `json:"author"`
	Note     string    `json:"note"`
	Digest   string    `json:"digest"`
	Restores uint32    `json:"restores"`
}

// bundle is the body of check and publish.
type bundle struct {
	Note  string       `json:"note,omitempty"`
	Files []bundleFile `json:"files"`
}

type bundleFile struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

func encodeBundle(note string, files []File) ([]byte, error) {
	b := bundle{Note: note, Files: []bundleFile{}}
	for _, f := range files {
		b.Files = append(b.Files, bundleFile{Name: f.Name, Content: string(f.Content)})
	}
	return json.Marshal(b)
}

// Checked is the result of a check: ok when there is no fault and no failed test.
type Checked struct {
	OK     bool          `json:"ok"`
	Faults []Fault       `json:"faults"`
	Tests  []TestOutcome `json:"tests"`
}

// Check has the server compile and test files as they would be published, and
// changes nothing.
func (c *Client) Check(ctx context.Context, files []File) (Checked, error) {
	var out Checked
	body, err := encodeBundle("", files)
	if err != nil {
		return out, err
	}
	const path = "/v1/definitions:check"
	reply, _, err := c.do(ctx, call{
		method: http.MethodPost, path: path, kind: "application/json", body: body, again: true,
	})
	if err != nil {
		return out, err
	}
	return out, decode(path, reply, &out)
}

// Published is the result of a publish.
type Published struct {
	Revision Revision      `json:"revision"`
	Tests    []TestOutcome `json:"tests"`
}

// Publish makes files the definitions in force, all or none. With ifMatch not
// 0 that revision must be in force, else an *Error of status 412. Faults and
// failed tests come as an *Error whose Faults and Tests name them.
func (c *Client) Publish(
	ctx context.Context, files []File, note string, ifMatch uint32,
) (Published, error) {
	var out Published
	body, err := encodeBundle(note, files)
	if err != nil {
		return out, err
	}
	const path = "/v1/definitions"
	reply, _, err := c.do(ctx, call{
		method: http.MethodPut, path: path, kind: "application/json", body: body,
		header: matchHeader(ifMatch),
	})
	if err != nil {
		return out, err
	}
	return out, decode(path, reply, &out)
}

// Rollback publishes the content of revision n again, as a new revision.
func (c *Client) Rollback(ctx context.Context, n, ifMatch uint32) (Revision, error) {
	var out Published
	path := fmt.Sprintf("/v1/revisions/%d:restore", n)
	reply, _, err := c.do(ctx, call{
		method: http.MethodPost, path: path, header: matchHeader(ifMatch),
	})
	if err != nil {
		return out.Revision, err
	}
	return out.Revision, decode(path, reply, &out)
}

func matchHeader(revision uint32) map[string]string {
	if revision == 0 {
		return nil
	}
	return map[string]string{"If-Match": strconv.Quote(strconv.FormatUint(uint64(revision), 10))}
}

// Revisions lists the newest revisions first, at most limit; 0 = the server's default.
func (c *Client) Revisions(ctx context.Context, limit int) ([]Revision, error) {
	path := "/v1/revisions"
	if limit > 0 {
		path += "?limit=" + strconv.Itoa(limit)
	}
	var out struct {
		Revisions []Revision `json:"revisions"`
	}
	err := c.getJSON(ctx, path, &out)
	return out.Revisions, err
}

// Files gives the files of revision n (0 = the one in force) and its number.
func (c *Client) Files(ctx context.Context, n uint32) (uint32, []File, error) {
	path := "/v1/definitions"
	if n != 0 {
		path += "?revision=" + strconv.FormatUint(uint64(n), 10)
	}
	var out struct {
		Revision uint32       `json:"revision"`
		Files    []bundleFile `json:"files"`
	}
	if err := c.getJSON(ctx, path, &out); err != nil {
		return 0, nil, err
	}
	files := make([]File, 0, len(out.Files))
	for _, f := range out.Files {
		files = append(files, File{Name: f.Name, Content: []byte(f.Content)})
	}
	return out.Revision, files, nil
}

// SegmentMembers adds and removes user ids of a static segment, all or none.
func (c *Client) SegmentMembers(ctx context.Context, segment string, add, remove []string) error {
	body, err := json.Marshal(struct {
		Add    []string `json:"add,omitempty"`
		Remove []string `json:"remove,omitempty"`
	}{add, remove})
	if err != nil {
		return err
	}
	_, _, err = c.do(ctx, call{
		method: http.MethodPost, path: "/v1/segments/" + url.PathEscape(segment) + "/members",
		kind: "application/json", body: body, again: true,
	})
	return err
}
