package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"tact/server/client"
)

// defaultAddress is where a server listens unless it is told otherwise.
const defaultAddress = "127.0.0.1:8080"

// remote says which server to talk to, and with which key.
type remote struct {
	address, key, data string
}

func (r *remote) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.address, "address", "",
		"address of the server (default $TACT_ADDRESS, else what --data holds, else "+
			defaultAddress+")")
	f.StringVar(&r.key, "key", "", "admin key (default $TACT_ADMIN_KEY)")
	f.StringVar(&r.data, "data", "", "data folder of a running server: where it serves and its key\n"+
		"("+addressFile+", "+keyFile+")")
}

// where is the address of the server that flags and environment name, else that of
// the server which runs on the data folder.
func (r *remote) where() (string, error) {
	address := cmp.Or(r.address, os.Getenv("TACT_ADDRESS"))
	if address == "" && r.data != "" {
		var err error
		if address, err = readAddress(r.data); err != nil {
			return "", err
		}
	}
	return cmp.Or(address, defaultAddress), nil
}

// secret is the admin key that flags, environment or the data folder hold; "" without
// any of them.
func (r *remote) secret() (string, error) {
	key := cmp.Or(r.key, os.Getenv(keyVariable))
	if key != "" || r.data == "" {
		return key, nil
	}
	key, err := readKey(r.data)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &exitError{exitUsage, fmt.Errorf("--data %s: there is no %s in it: name the data "+
			"folder of a server, or give --key or $%s", r.data, keyFile, keyVariable)}
	}
	return key, err
}

// client makes the client of the server that flags and environment name.
func (r *remote) client() (*client.Client, error) {
	key, err := r.secret()
	if err != nil {
		return nil, err
	}
	if key == "" {
		return nil, &exitError{exitUsage, fmt.Errorf(
			"no admin key: give --key, $%s, or --data with the server's data folder", keyVariable)}
	}
	address, err := r.where()
	if err != nil {
		return nil, err
	}
	return client.New(address, key), nil
}

// remoteError gives an error of a call its exit code.
func remoteError(ctx context.Context, err error) error {
	var answered *client.Error
	var network net.Error
	var file *fs.PathError // its cause is a network's error by its methods alone
	switch {
	case errors.Is(err, client.ErrDamaged):
		return &exitError{exitDamaged, err}
	case errors.As(err, &answered) && answered.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w\nthe key is not this server's: give --key, $%s, or --data with its data "+
			"folder", err, keyVariable)
	case err == nil, ctx.Err() != nil, errors.As(err, &answered), errors.As(err, &file):
		return err
	case errors.As(err, &network):
		return unreachable(fmt.Errorf("no server answers: %w", err))
	}
	return err
}

// unreachable says what to do where no server answers.
func unreachable(err error) error {
	return &exitError{exitUnreachable, fmt.Errorf("%w\nstart one with tact serve, or say where it "+
		"is: --address HOST:PORT, or --data with the data folder of one that runs", err)}
}
