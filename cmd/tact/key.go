package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Where the admin key is kept, and the variable that replaces it.
const (
	keyFile     = "admin.key"
	keyVariable = "TACT_ADMIN_KEY"
)

// adminKey gives the key of the server on the data folder dir: the environment's,
// else the folder's, else a new one that is written there. made says that it is new.
func adminKey(dir string) (key string, made bool, err error) {
	if key = os.Getenv(keyVariable); key != "" {
		return key, false, nil
	}
	key, err = readKey(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, false, err
	}
	key = "tact_" + rand.Text()
	// Written aside and renamed: a crash leaves a whole key or none.
	name := filepath.Join(dir, keyFile)
	if err := os.WriteFile(name+".new", []byte(key+"\n"), 0o600); err != nil {
		return "", false, fmt.Errorf("keep the admin key: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return "", false, fmt.Errorf("keep the admin key: %w", err)
	}
	return key, true, nil
}

// readKey reads the key in the data folder dir. A file that others may read is
// refused: the key in it is no secret.
func readKey(dir string) (string, error) {
	name := filepath.Join(dir, keyFile)
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("read the admin key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s may be read by others (mode %04o): chmod 600 it", name,
			info.Mode().Perm())
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read the admin key: %w", err)
	}
	key := strings.TrimSpace(string(text))
	if key == "" {
		return "", fmt.Errorf("%s holds no key: remove it for a new one", name)
	}
	return key, nil
}
