// Prints the ops of an LLB definition as provenance of an old BuildKit release has them, and the
// digests that the release would give them. The JSON of ops is that of the release's own
// solver/pb, for which the module has to require that release; what CacheMap clears and puts around
// it is written here after solver/llbsolver/ops of the release.
//
//	go run . v0.11 definition.bin > v0.11.6.json   # github.com/moby/buildkit v0.11.6
//	go run . v0.16 definition.bin > v0.16.0.json   # v0.16.0
//	go run . v0.17 definition.bin > v0.17.3.json   # v0.17.3, and Unmarshal is UnmarshalVT
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path"

	"github.com/moby/buildkit/solver/pb"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func hash(raw bool, v any) string {
	b, err := json.Marshal(v)
	check(err)
	if raw {
		return string(b)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(b))
}

func main() {
	oldest := os.Args[1] == "v0.11"
	dt, err := os.ReadFile(os.Args[2])
	check(err)
	var def pb.Definition
	check(def.Unmarshal(dt))
	type step struct {
		Op     *pb.Op   `json:"op"`
		Inputs []string `json:"inputs,omitempty"`
	}
	var steps []json.RawMessage
	var digests []string
	for _, d := range def.Def {
		op := &pb.Op{}
		check(op.Unmarshal(d))
		st := step{Op: op}
		for range op.Inputs {
			st.Inputs = append(st.Inputs, "step0:0")
		}
		n := len(op.Inputs)
		op.Inputs = nil
		js, err := json.Marshal(st)
		check(err)
		// Kept as text, because what is cleared below is cleared in the op.
		steps = append(steps, js)
		var D string
		switch o := op.Op.(type) {
		case *pb.Op_Exec:
			e := o.Exec
			for _, h := range e.Meta.ExtraHosts {
				h.IP = ""
			}
			for _, m := range e.Mounts {
				m.Selector = ""
				if !oldest && m.CacheOpt != nil {
					m.CacheOpt.ID = ""
					m.CacheOpt.Sharing = 0
				}
			}
			D = hash(false, struct {
				Type     string
				Exec     *pb.ExecOp
				OS, Arch string
			}{"buildkit.exec.v0", e, "linux", "amd64"})
		case *pb.Op_File:
			var acts [][]byte
			var idx [][]int
			for _, a := range o.File.Actions {
				var b []byte
				var err error
				switch x := a.Action.(type) {
				case *pb.FileAction_Mkdir:
					b, err = json.Marshal(x.Mkdir)
				case *pb.FileAction_Mkfile:
					b, err = json.Marshal(x.Mkfile)
				case *pb.FileAction_Rm:
					b, err = json.Marshal(x.Rm)
				case *pb.FileAction_Copy:
					if a.SecondaryInput != -1 && int(a.SecondaryInput) < n {
						x.Copy.Src = path.Base(x.Copy.Src)
					}
					b, err = json.Marshal(x.Copy)
				}
				check(err)
				acts = append(acts, b)
				idx = append(idx, []int{int(a.Input), int(a.SecondaryInput), int(a.Output)})
			}
			def := true
			for i, x := range idx {
				in := len(idx) + i - 1
				if i == 0 {
					in = 0
				}
				out := -1
				if i == len(idx)-1 {
					out = 0
				}
				if x[0] != in || (x[1] != -1 && x[1] != 1) || x[2] != out {
					def = false
				}
			}
			if def {
				idx = nil
			}
			D = hash(false, struct {
				Type    string
				Actions [][]byte
				Indexes [][]int `json:"indexes,omitempty"`
			}{"buildkit.file.v0", acts, idx})
		case *pb.Op_Merge:
			D = hash(oldest, struct {
				Type  string
				Merge *pb.MergeOp
			}{"buildkit.merge.v0", o.Merge})
		case *pb.Op_Diff:
			D = hash(oldest, struct {
				Type string
				Diff *pb.DiffOp
			}{"buildkit.diff.v0", o.Diff})
		case *pb.Op_Build:
			D = hash(false, struct {
				Type string
				Exec *pb.BuildOp
			}{"buildkit.build.v0", o.Build})
		}
		digests = append(digests, D)
	}
	check(json.NewEncoder(os.Stdout).Encode(struct {
		Steps   []json.RawMessage `json:"llbDefinition"`
		Digests []string          `json:"digests"`
	}{steps, digests}))
}
