package main

import (
	"github.com/moby/buildkit/client/llb/sourceresolver"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// platformOf returns the platform for which an image is wanted.
func platformOf(opt sourceresolver.Opt) *ocispecs.Platform { return opt.Platform }
