package engine

import (
	"encoding/hex"
	"errors"
	"fmt"

	"tact/engine/definition"
	"tact/storage"
	"tact/storage/docs"
)

// restoreSnapshot compiles the last published revision at start; a store
// without one gets the empty snapshot.
func (e *Engine) restoreSnapshot() error {
	rev, err := e.docs.Latest()
	if errors.Is(err, docs.ErrNotFound) {
		return e.swapEmpty()
	}
	if err != nil {
		return fmt.Errorf("read the last revision: %w", err)
	}
	snap, faults := compile(e.load(filesOf(rev)), e.store.Intern, nil, e.clock.Now(), e.shares)
	if len(faults) > 0 {
		return fmt.Errorf("revision %d does not compile any more: %s", rev.Number, faults[0])
	}
	snap.Revision = rev.Number
	return e.swap(snap)
}

func (e *Engine) swapEmpty() error {
	snap, faults := compile(load(nil), e.store.Intern, nil, e.clock.Now(), nil)
	if len(faults) > 0 {
		return fmt.Errorf("empty definitions do not compile: %s", faults[0])
	}
	return e.swap(snap)
}

// swap makes snap the one that decisions read. Nobody else may use its set: of what is
// written there only the packed documents are kept, for as long as it is in force.
func (e *Engine) swap(snap *Snapshot) error {
	snap.Set.Lighten()
	snap.Plan.Blind = e.store.Blind()
	ws := &snap.Set.Workspace
	for _, name := range append([]string{ws.Timezone}, ws.Zones...) {
		if name == "" {
			continue
		}
		if _, err := e.zones.intern(e.store, name); err != nil {
			return err
		}
	}
	e.swapTracked(snap)
	for i := range e.store.Groups() {
		g := e.store.Group(storage.GroupID(i))
		g.Lock()
		g.TrimPages(snap.Plan.Program.Pages())
		g.Unlock()
	}
	return nil
}

func filesOf(rev docs.Revision) []definition.File {
	files := make([]definition.File, len(rev.Files))
	for i, f := range rev.Files {
		files[i] = definition.File{Name: f.Name, Content: f.Content}
	}
	return files
}

// Check compiles files and runs their tests, without publishing anything. Names
// that only these files use are not kept.
func (e *Engine) Check(files []definition.File) ([]definition.Fault, []TestOutcome) {
	return checkLoaded(e.load(files))
}

// CheckFiles compiles files and runs their tests without a store.
func CheckFiles(files []definition.File) ([]definition.Fault, []TestOutcome) {
	return checkLoaded(load(files))
}

func checkLoaded(from loaded) ([]definition.Fault, []TestOutcome) {
	snap, faults := compile(from, throwAway(), nil, 0, nil)
	if len(faults) > 0 {
		return faults, nil
	}
	return nil, runTests(snap)
}

// throwAway returns an intern whose ids live as long as it does.
func throwAway() intern {
	ids := make(map[storage.DictKind]map[string]storage.Name)
	return func(kind storage.DictKind, name string) (storage.Name, error) {
		names := ids[kind]
		if names == nil {
			names = make(map[string]storage.Name)
			ids[kind] = names
		}
		id, ok := names[name]
		if !ok {
			id = storage.Name(len(names) + 1)
			names[name] = id
		}
		return id, nil
	}
}

// Publish makes files the definitions in force: all of them or, with a fault or
// a failing test, none. The new revision is durable before any decision sees
// it. ifMatch is the revision the caller started from; 0 = whatever is current.
func (e *Engine) Publish(files []definition.File, author, note string, ifMatch uint32) (
	RevisionView, []definition.Fault, []TestOutcome, error,
) {
	from := e.load(files)
	faults, tests := checkLoaded(from)
	if len(faults) > 0 {
		return RevisionView{}, faults, nil, nil
	}
	for _, t := range tests {
		if !t.Passed {
			return RevisionView{}, nil, tests, nil
		}
	}
	e.publish.Lock()
	defer e.publish.Unlock()
	rev := docs.Revision{Author: author, Note: note}
	for _, f := range files {
		rev.Files = append(rev.Files, docs.File{Name: f.Name, Content: f.Content})
	}
	view, faults, err := e.publishLocked(rev, from, ifMatch)
	return view, faults, tests, err
}

// Rollback publishes the content of revision n as a new revision.
func (e *Engine) Rollback(n uint32, author string, ifMatch uint32) (RevisionView, error) {
	e.publish.Lock()
	defer e.publish.Unlock()
	old, err := e.revision(n)
	if err != nil {
		return RevisionView{}, err
	}
	view, faults, err := e.publishLocked(docs.Revision{
		Author: author, Note: fmt.Sprintf("back to revision %d", n), Content: n, Files: old.Files,
	}, e.load(filesOf(old)), ifMatch)
	if len(faults) > 0 {
		return view, invalid("faults", "revision", faults[0].String())
	}
	return view, err
}

func (e *Engine) publishLocked(rev docs.Revision, from loaded, ifMatch uint32) (
	RevisionView, []definition.Fault, error,
) {
	current := e.snap.Load()
	if ifMatch != 0 && ifMatch != current.Revision {
		return RevisionView{}, nil, &Problem{
			Class: ProblemStale, Code: "stale_revision", Field: "If-Match",
			Detail: fmt.Sprintf("the current revision is %d", current.Revision),
		}
	}
	snap, faults := compile(from, e.store.Intern, current, e.clock.Now(), e.shares)
	if len(faults) > 0 {
		return RevisionView{}, faults, nil
	}
	migrations := e.countMigrations(current, snap)
	rev.Time = e.clock.Now()
	if rev.Content != 0 {
		rev.Files = nil // it points at the older revision's
	}
	n, err := e.docs.Publish(rev)
	if err != nil {
		return RevisionView{}, nil, storeProblem(err)
	}
	snap.Revision = n
	if err := e.swap(snap); err != nil {
		return RevisionView{}, nil, err
	}
	stored, err := e.revision(n)
	if err != nil {
		return RevisionView{}, nil, err
	}
	view := viewOf(stored)
	view.Migrations = migrations
	return view, nil, nil
}

// revision reads one revision.
func (e *Engine) revision(n uint32) (docs.Revision, error) {
	rev, err := e.docs.Get(n)
	if errors.Is(err, docs.ErrNotFound) {
		return rev, &Problem{
			Class: ProblemMissing, Code: "unknown_revision", Field: "revision",
			Detail: fmt.Sprintf("there is no revision %d", n),
		}
	}
	return rev, err
}

func viewOf(rev docs.Revision) RevisionView {
	v := RevisionView{
		Number: rev.Number, At: rev.Time, Author: rev.Author, Note: rev.Note,
		Digest: hex.EncodeToString(rev.Digest[:]),
	}
	if rev.Content != rev.Number {
		v.Of = rev.Content
	}
	return v
}

// Revisions returns the newest revisions, newest first.
func (e *Engine) Revisions(limit int) ([]RevisionView, error) {
	list, err := e.docs.List(limit)
	if err != nil {
		return nil, err
	}
	views := make([]RevisionView, len(list))
	for i := range list {
		views[i] = viewOf(list[i])
	}
	return views, nil
}

// Revision returns the number of the revision in force; 0 = none published yet.
func (e *Engine) Revision() uint32 { return e.snap.Load().Revision }

// RevisionFiles returns the files of a revision; 0 = the one in force.
func (e *Engine) RevisionFiles(n uint32) ([]definition.File, error) {
	if n == 0 {
		if n = e.Revision(); n == 0 {
			return nil, nil
		}
	}
	rev, err := e.revision(n)
	if err != nil {
		return nil, err
	}
	return filesOf(rev), nil
}

// maxOldSnapshots bounds the compiled older revisions kept for previews.
const maxOldSnapshots = 8

// snapshotAt returns a published revision, compiled: the current one, or an
// older one, which is compiled at first use and kept.
func (e *Engine) snapshotAt(n uint32) (*Snapshot, error) {
	if snap := e.snap.Load(); n == snap.Revision {
		return snap, nil
	}
	if snap, ok := e.old.Load(n); ok {
		return snap.(*Snapshot), nil
	}
	e.publish.Lock()
	defer e.publish.Unlock()
	rev, err := e.revision(n)
	if err != nil {
		return nil, err
	}
	snap, faults := compile(load(filesOf(rev)), e.store.Intern, nil, e.clock.Now(), nil)
	if len(faults) > 0 {
		return nil, fmt.Errorf("revision %d does not compile any more: %s", n, faults[0])
	}
	snap.Set.Lighten()
	snap.Revision, snap.Plan.Blind = n, e.store.Blind()
	count := 0
	e.old.Range(func(any, any) bool { count++; return true })
	if count >= maxOldSnapshots {
		e.old.Clear()
	}
	e.old.Store(n, snap)
	return snap, nil
}
