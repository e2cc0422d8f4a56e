package main

import (
	"github.com/moby/buildkit/client/llb/sourceresolver"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// platformOf returns the platform for which an image is wanted.
func platformOf(opt sourceresolver.Opt) *ocispecs.Platform {
	if opt.ImageOpt != nil && opt.ImageOpt.Platform != nil {
		return opt.ImageOpt.Platform
	}
	if opt.OCILayoutOpt != nil {
		return opt.OCILayoutOpt.Platform
	}
	return nil
}
