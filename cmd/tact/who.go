package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"tact/engine/definition"
	"tact/server/client"
)

// maxRuleFile bounds the file of a rule.
const maxRuleFile = 4 << 20

// who says for which people a query or an export is.
type who struct {
	rule, context string
	everybody     bool
	query         client.Query
}

func (w *who) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&w.rule, "rule", "", "file with a rule, YAML or JSON, - for stdin")
	f.StringVar(&w.query.Segment, "segment", "", "a published segment")
	f.StringVar(&w.query.Offer, "offer", "", "a published offer: whom its rules are for")
	f.BoolVar(&w.everybody, "everybody", false, "all people")
	f.StringVar(&w.query.Placement, "placement", "", "where the offer would be given")
	f.StringVar(&w.query.Channel, "channel", "", "on which channel the offer would be given")
	f.StringSliceVar(&w.query.Gates, "gate", nil,
		"gates of the offer beside its rules: caps, consent, holdout")
	f.StringVar(&w.context, "context", "", `context of the request supposed, as {"page":"home"}`)
	f.StringSliceVar(&w.query.Attributes, "attributes", nil, "attributes to write of each person")
	f.StringSliceVar(&w.query.Tags, "tags", nil, "tags to write of each person")
}

// read completes the query from the files that flags name.
func (w *who) read(cmd *cobra.Command) (client.Query, error) {
	ways := 0
	for _, given := range []bool{w.rule != "", w.query.Segment != "", w.everybody} {
		if given {
			ways++
		}
	}
	if ways > 1 || ways == 0 && w.query.Offer == "" {
		return w.query, wrongUse(cmd, errors.New(
			"say for whom: one of --rule, --segment, --everybody, or --offer"))
	}
	if w.everybody {
		w.query.Rule = json.RawMessage("{}")
	}
	if w.rule != "" {
		text, err := readRule(cmd, w.rule)
		if err != nil {
			return w.query, err
		}
		w.query.Rule = text
	}
	if w.context != "" {
		if !json.Valid([]byte(w.context)) {
			return w.query, wrongUse(cmd, errors.New("--context is not JSON"))
		}
		w.query.Context = json.RawMessage(w.context)
	}
	return w.query, nil
}

// readRule reads a rule from a file or from stdin: JSON, or YAML as the documents
// have it.
func readRule(cmd *cobra.Command, path string) (json.RawMessage, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxRuleFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("rule %s: %w", path, err)
	case len(text) > maxRuleFile:
		return nil, fmt.Errorf("rule %s: more than %d bytes", path, maxRuleFile)
	case json.Valid(text):
		return text, nil
	}
	rule, faults := definition.NodeFromYAML(text, path)
	switch {
	case len(faults) > 0:
		return nil, fmt.Errorf("rule %s", faults[0])
	case rule == nil:
		return nil, fmt.Errorf("rule %s: there is no rule", path)
	}
	return rule.AppendJSON(nil), nil
}
