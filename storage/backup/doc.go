// Package backup copies a store in use into a folder, piece by piece, and makes
// a store out of such copies again, as it was at a time in between.
//
// A folder of backups holds one folder a backup: a manifest, written last, files
// of records in checked and compressed blocks, pieces of the event log, and,
// apart from all others, the people files: the keys that open what is sealed, and
// the hashes of identities. FORMAT.md of package storage draws the bytes.
//
// Laws, each with a test:
//  1. A backup without a whole manifest is none. Nothing in a finished one
//     changes but its people files.
//  2. Any byte that is not what was written, in a backup that a restore uses, is
//     an error of it, before the restored store has its name.
//  3. Forget leaves nothing that opens the sealed parts of a person in any backup
//     of the folder, touches the people files alone, and may be cut anywhere: what
//     was there before or what is to be there counts.
//  4. A restored store holds every commit up to the time asked for and none
//     behind it: all groups are cut at the same commit.
package backup
