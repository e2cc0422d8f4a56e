package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	cache "github.com/moby/buildkit/cache/remotecache/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tree is one extracted layer chain.
type tree struct {
	Fs     string `json:"fs"`
	Inodes int64  `json:"inodes"`
	Size   int64  `json:"size"`
}

// cacheExport is the part of either export style that names the config and the layers: an
// image-style manifest has Config and Layers, an index lists both kinds under Manifests.
type cacheExport struct {
	Config    ocispec.Descriptor   `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
}

const diffIDAnnotation = "containerd.io/uncompressed"

func applyLayout(ctx context.Context, layout, root string) (map[digest.Digest]tree, error) {
	store, err := local.NewStore(layout)
	if err != nil {
		return nil, err
	}
	snapshotter, err := overlay.NewSnapshotter(root)
	if err != nil {
		return nil, err
	}
	defer snapshotter.Close()

	var index ocispec.Index
	data, err := os.ReadFile(filepath.Join(layout, ocispec.ImageIndexFile))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, err
	}
	applier := &chainApplier{store: store, snapshotter: snapshotter, root: root, done: map[digest.Digest]tree{}}
	for _, desc := range index.Manifests {
		if err := applier.export(ctx, desc); err != nil {
			return nil, fmt.Errorf("%s: %w", desc.Digest, err)
		}
	}
	return applier.done, nil
}

type chainApplier struct {
	store       content.Store
	snapshotter snapshots.Snapshotter
	root        string
	done        map[digest.Digest]tree
}

// export extracts every layer node of one cache export, and nothing of any other manifest or index.
func (a *chainApplier) export(ctx context.Context, desc ocispec.Descriptor) error {
	var export cacheExport
	if err := a.readJSON(ctx, desc, &export); err != nil {
		return err
	}
	configDesc := export.Config
	layers := map[digest.Digest]ocispec.Descriptor{}
	for _, d := range append(export.Layers, export.Manifests...) {
		if d.MediaType == cache.CacheConfigMediaTypeV0 {
			configDesc = d
			continue
		}
		layers[d.Digest] = d
	}
	if configDesc.MediaType != cache.CacheConfigMediaTypeV0 {
		return nil
	}
	var config cache.CacheConfig
	if err := a.readJSON(ctx, configDesc, &config); err != nil {
		return err
	}
	for i := range config.Layers {
		var chain []ocispec.Descriptor
		for node := i; node != -1; node = config.Layers[node].ParentIndex {
			layer, ok := layers[config.Layers[node].Blob]
			if !ok {
				return fmt.Errorf("layer %s is not among the descriptors", config.Layers[node].Blob)
			}
			chain = append([]ocispec.Descriptor{layer}, chain...)
		}
		if err := a.chain(ctx, chain); err != nil {
			return err
		}
	}
	return nil
}

// chain extracts a chain of layers, lowest first, unless that was done before.
func (a *chainApplier) chain(ctx context.Context, chain []ocispec.Descriptor) error {
	var (
		parent  digest.Digest
		diffIDs []digest.Digest
	)
	for _, desc := range chain {
		diffIDs = append(diffIDs, digest.Digest(desc.Annotations[diffIDAnnotation]))
		chainID := identity.ChainID(diffIDs)
		if _, ok := a.done[chainID]; !ok {
			extracted, err := a.layer(ctx, desc, chainID, parent)
			if err != nil {
				return fmt.Errorf("layer %s: %w", desc.Digest, err)
			}
			a.done[chainID] = extracted
		}
		parent = chainID
	}
	return nil
}

// layer extracts one layer over its parent and commits it under its chain id.
func (a *chainApplier) layer(ctx context.Context, desc ocispec.Descriptor, chainID, parent digest.Digest) (tree, error) {
	active := "extract-" + chainID.String()
	mounts, err := a.snapshotter.Prepare(ctx, active, parent.String())
	if err != nil {
		return tree{}, err
	}
	applied, err := apply.NewFileSystemApplier(a.store).Apply(ctx, desc, mounts)
	if err != nil {
		return tree{}, err
	}
	if want := desc.Annotations[diffIDAnnotation]; applied.Digest.String() != want {
		return tree{}, fmt.Errorf("diffID is %s, the descriptor says %s", applied.Digest, want)
	}
	if err := a.snapshotter.Commit(ctx, chainID.String(), active); err != nil {
		return tree{}, err
	}
	usage, err := a.snapshotter.Usage(ctx, chainID.String())
	if err != nil {
		return tree{}, err
	}
	// Containerd numbers snapshots from one in the order they are prepared, and none is removed here.
	fs := filepath.Join(a.root, "snapshots", fmt.Sprint(len(a.done)+1), "fs")
	return tree{Fs: fs, Inodes: usage.Inodes, Size: usage.Size}, nil
}

func (a *chainApplier) readJSON(ctx context.Context, desc ocispec.Descriptor, into any) error {
	data, err := content.ReadBlob(ctx, a.store, desc)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
