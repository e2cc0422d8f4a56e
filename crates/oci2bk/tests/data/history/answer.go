// Prints the definition on stdin as a Dockerfile frontend answers to frontend.convertllb, with BuildKit's own
// frontend/subrequests/convertllb.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/subrequests/convertllb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"
)

func run(in io.Reader, out io.Writer) error {
	def, err := llb.ReadFrom(in)
	if err != nil {
		return err
	}
	result := &convertllb.Result{
		Def:      make(map[digest.Digest]*pb.Op, len(def.Def)),
		Metadata: def.Metadata,
		Source:   def.Source,
	}
	for _, dt := range def.Def {
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			return err
		}
		result.Def[digest.FromBytes(dt)] = &op
	}
	answer, err := result.ToResult()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", answer.Metadata["result.json"])
	return err
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
