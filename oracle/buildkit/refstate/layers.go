package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
)

// request names one layer to apply.
type request struct {
	Blob string `json:"blob"`
	Fs   string `json:"fs"`
	// Lowers are the directories of the layers below, the nearest first; without any the layer is
	// the lowest one.
	Lowers []string `json:"lowers"`
}

// answer says why a layer was refused, or nothing.
type answer struct {
	Error string `json:"error,omitempty"`
}

// applyLayers applies the layer of each line of its input. The options are those that containerd's
// core/diff/apply chooses for the mounts of an overlay snapshotter.
func applyLayers(ctx context.Context, in io.Reader, out io.Writer) error {
	requests := json.NewDecoder(bufio.NewReader(in))
	answers := json.NewEncoder(out)
	for {
		var r request
		if err := requests.Decode(&r); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var a answer
		if err := applyLayer(ctx, r); err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

func applyLayer(ctx context.Context, r request) error {
	blob, err := os.Open(r.Blob)
	if err != nil {
		return err
	}
	defer blob.Close()
	stream, err := compression.DecompressStream(blob)
	if err != nil {
		return err
	}
	defer stream.Close()
	var opts []archive.ApplyOpt
	if len(r.Lowers) > 0 {
		opts = append(opts, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithParents(r.Lowers))
	}
	if _, err := archive.Apply(ctx, r.Fs, stream, opts...); err != nil {
		return err
	}
	// The digest is over the whole stream.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return fmt.Errorf("after the archive: %w", err)
	}
	return nil
}
