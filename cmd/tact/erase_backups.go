package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"tact/server/client"
	"tact/storage"
	"tact/storage/backup"
)

// forget throws the keys of erased people out of --backups: of those whom the ledgers
// of backups know, and the server; without a client none is asked.
func (o *eraseFlags) forget(cmd *cobra.Command, c *client.Client) error {
	ctx := cmd.Context()
	if info, err := os.Stat(o.backups); err != nil || !info.IsDir() {
		return errors.Join(err, fmt.Errorf("%s is no folder of backups", o.backups))
	}
	var all []backup.Gone
	for _, dir := range append([]string{o.backups}, o.ledgers...) {
		known, err := backup.Ledger(ctx, dir, backup.Options{})
		if err != nil {
			return codeOfDamage(err)
		}
		all = append(all, known...)
	}
	if c != nil {
		known, err := serverLedger(cmd, c)
		if err != nil {
			return remoteError(ctx, err)
		}
		all = append(all, known)
	}
	var done backup.Forgotten
	people := make(map[[16]byte]map[backup.Person]bool)
	names := make(map[[16]byte][][]byte)
	for _, gone := range all {
		if people[gone.Store] == nil {
			people[gone.Store] = make(map[backup.Person]bool)
		}
		names[gone.Store] = append(names[gone.Store], gone.Names...)
		for _, p := range gone.People {
			people[gone.Store][p] = true
		}
	}
	known := 0
	for store, of := range people {
		gone := backup.Gone{Store: store, Names: names[store]}
		for p := range of {
			gone.People = append(gone.People, p)
		}
		known += len(of)
		one, err := backup.Forget(ctx, o.backups, gone, backup.Options{})
		done.Backups, done.Keys = done.Backups+one.Backups, done.Keys+one.Keys
		done.Claims, done.Names = done.Claims+one.Claims, done.Names+one.Names
		if err != nil {
			return codeOfDamage(err)
		}
	}
	if o.json {
		return writeJSON(cmd.OutOrStdout(), map[string]any{
			"known": known, "backups": done.Backups, "keys": done.Keys, "identities": done.Claims,
			"names": done.Names,
		})
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(),
		"ok: of %s erased people, %s, %s and %s thrown out of %s\n", grouped(int64(known)),
		count(done.Keys, "key"), count(done.Claims, "claim"), count(done.Names, "name"),
		count(done.Backups, "backup"))
	return err
}

// serverLedger reads whom a server knows to be erased.
func serverLedger(cmd *cobra.Command, c *client.Client) (gone backup.Gone, err error) {
	end, err := c.Erasures(cmd.Context(), func(p client.ErasedPerson) {
		gone.People = append(gone.People, backup.Person{
			Slot: storage.Slot(p.Slot), Workspace: storage.WorkspaceID(p.Workspace),
			ID: storage.PersonID(p.Person),
		})
	})
	if err != nil {
		return gone, fmt.Errorf("whom the server has erased: %w", err)
	}
	id, err := hex.DecodeString(end.Store)
	if err == nil && len(id) != len(gone.Store) {
		err = errors.New("not 16 bytes")
	}
	if err != nil {
		return gone, fmt.Errorf("the server's store %q: %w", end.Store, err)
	}
	gone.Store = [16]byte(id)
	for _, name := range end.Names {
		key, err := hex.DecodeString(name)
		if err != nil {
			return gone, fmt.Errorf("a name that the server has forgotten, %q: %w", name, err)
		}
		gone.Names = append(gone.Names, key)
	}
	return gone, nil
}

// codeOfDamage gives an error of backups the exit code of damage, where it is that.
func codeOfDamage(err error) error {
	if errors.Is(err, storage.ErrCorrupt) {
		return &exitError{exitDamaged, err}
	}
	return err
}
