package storage

// BuildProfile packs a profile that belongs to no store: what a person would
// have after one patch. It serves the tests of definitions. It errors with
// ErrTooLarge as the patch of a stored person would.
func BuildProfile(p *Patch) (Profile, error) {
	var d profileDraft
	d.load(Profile{})
	if err := d.patch(p); err != nil {
		return Profile{}, err
	}
	return Profile{d.append(nil)}, nil
}
