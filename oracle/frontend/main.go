// Command frontend runs the Dockerfile frontend of the BuildKit that its module pins, without a daemon.
//
// Each line of its input is a build, as JSON: a Dockerfile, the options of the frontend, the configs of base images. For
// each it writes a line: the definition of the target in protobuf, or the error of the frontend.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pkg/errors"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// build is one line of the input.
type build struct {
	Dockerfile []byte            `json:"dockerfile"`
	Opts       map[string]string `json:"opts"`
	// Images has config objects, or whole configs, by NAME or NAME@PLATFORM. Other images have an empty config.
	Images map[string]json.RawMessage `json:"images"`
	Worker string                     `json:"worker"`
}

// answer is one line of the output.
type answer struct {
	Definition []byte `json:"definition,omitempty"`
	Error      string `json:"error,omitempty"`
}

func main() {
	// Lexers of the frontend report characters to stderr that they replace.
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = null
	}
	in, out := bufio.NewReaderSize(os.Stdin, 1<<20), bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if encodeErr := json.NewEncoder(out).Encode(run(line)); encodeErr != nil {
				os.Exit(1)
			}
			// The other side may wait for the answer.
			if in.Buffered() == 0 && out.Flush() != nil {
				os.Exit(1)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			os.Exit(1)
		}
	}
	if out.Flush() != nil {
		os.Exit(1)
	}
}

func run(line []byte) (result answer) {
	defer func() {
		if r := recover(); r != nil {
			result = answer{Error: fmt.Sprintf("panic: %v", r)}
		}
	}()
	var b build
	if err := json.Unmarshal(line, &b); err != nil {
		return answer{Error: err.Error()}
	}
	worker, err := platforms.Parse(b.Worker)
	if err != nil {
		return answer{Error: err.Error()}
	}
	if b.Opts == nil {
		b.Opts = map[string]string{}
	}
	// A frontend image that the Dockerfile asks for is this one.
	opts := maps.Clone(b.Opts)
	opts["cmdline"] = "this frontend"
	c := &gateway{build: b, opts: opts, worker: worker}
	if _, err := builder.Build(context.Background(), c); err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Definition: c.last}
}

// gateway is what the frontend sees of a daemon. Every local source has the Dockerfile and nothing else.
type gateway struct {
	build
	opts   map[string]string
	worker ocispecs.Platform
	// last is the definition of the last request: that of the build.
	last []byte
}

func (g *gateway) BuildOpts() client.BuildOpts {
	return client.BuildOpts{
		Opts:      g.opts,
		SessionID: "session",
		Workers:   []client.WorkerInfo{{ID: "worker", Platforms: []ocispecs.Platform{g.worker}}},
		LLBCaps:   pb.Caps.CapSet(pb.Caps.All()),
		Caps:      gwpb.Caps.CapSet(gwpb.Caps.All()),
	}
}

func (g *gateway) Solve(_ context.Context, req client.SolveRequest) (*client.Result, error) {
	if req.Definition == nil {
		return nil, errors.New("only definitions are solved")
	}
	data, err := req.Definition.Marshal()
	if err != nil {
		return nil, err
	}
	g.last = data
	result := client.NewResult()
	result.SetRef(&local{dockerfile: g.Dockerfile})
	return result, nil
}

func (g *gateway) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	platform := g.worker
	if p := platformOf(opt); p != nil {
		platform = platforms.Normalize(*p)
	}
	config, whole := g.config(ref, platforms.Format(platform))
	if !whole {
		var err error
		config, err = json.Marshal(map[string]any{
			"architecture": platform.Architecture,
			"os":           platform.OS,
			"variant":      platform.Variant,
			"config":       json.RawMessage(config),
			"rootfs":       map[string]any{"type": "layers", "diff_ids": []digest.Digest{digest.FromString(ref)}},
		})
		if err != nil {
			return "", "", nil, err
		}
	}
	return ref, digest.FromBytes(config), config, nil
}

// config returns the config of an image, and whether it is a whole document.
func (g *gateway) config(ref, platform string) (json.RawMessage, bool) {
	found := json.RawMessage("{}")
	wanted, exact := normal(ref), false
	for name, config := range g.Images {
		base, forPlatform := strings.CutSuffix(name, "@"+platform)
		if normal(base) == wanted && (forPlatform || !exact) {
			found, exact = config, forPlatform
		}
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(found, &members) != nil {
		return found, false
	}
	_, whole := members["config"]
	return found, whole
}

// normal returns the name of an image in its normal form; empty if it is none.
func normal(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	return reference.TagNameOnly(named).String()
}

func (g *gateway) ResolveSourceMetadata(context.Context, *pb.SourceOp, sourceresolver.Opt) (*sourceresolver.MetaResponse, error) {
	return nil, errors.New("nothing is known of sources")
}

func (g *gateway) Inputs(context.Context) (map[string]llb.State, error) { return nil, nil }

func (g *gateway) NewContainer(context.Context, client.NewContainerRequest) (client.Container, error) {
	return nil, errors.New("there are no containers")
}

func (g *gateway) Warn(context.Context, digest.Digest, string, client.WarnOpts) error { return nil }

// local is a directory with a Dockerfile.
type local struct{ dockerfile []byte }

func (l *local) ReadFile(_ context.Context, req client.ReadRequest) ([]byte, error) {
	if req.Filename != "Dockerfile" {
		return nil, os.ErrNotExist
	}
	return l.dockerfile, nil
}

func (l *local) ToState() (llb.State, error)    { return llb.Scratch(), nil }
func (l *local) Evaluate(context.Context) error { return nil }
func (l *local) StatFile(_ context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	if req.Path != "Dockerfile" {
		return nil, os.ErrNotExist
	}
	return &fstypes.Stat{Path: req.Path}, nil
}
func (l *local) ReadDir(context.Context, client.ReadDirRequest) ([]*fstypes.Stat, error) {
	return nil, nil
}
