//! Digests of ops in JSON. The expected digests are output of the `CacheMap` functions of BuildKit v0.32.2
//! for the same ops; the documents follow the structs and rules of the releases. `tests/keys.rs` compares
//! whole builds with a real daemon.

use codec::Digest;
use codec::gojson::ControlEscapes;

use super::op::{Action, Kind};
use super::*;

fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

fn op(json: &str) -> Op {
    serde_json::from_str(json).unwrap()
}

fn encoding(release: Release) -> Encoding {
    Encoding { release, escapes: ControlEscapes::Short }
}

fn digest_of(json: &str, release: Release) -> String {
    digest(&op(json), encoding(release), &amd64()).unwrap().to_string()
}

/// The hashed document of an op.
fn document(json: &str, release: Release) -> String {
    let (op, encoding) = (op(json), encoding(release));
    match &op.kind {
        Kind::Exec(exec) => {
            let platform = op.platform.clone().unwrap_or_else(amd64).normalized();
            preimage::exec::exec(exec, &platform, encoding).unwrap()
        }
        Kind::File(file) => preimage::file::file(file, op.inputs, encoding).unwrap(),
        Kind::Build(build) => preimage::build(build, encoding).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The documents of the actions of a file op.
fn actions(json: &str, release: Release) -> Vec<String> {
    use base64::Engine as _;
    let document: serde_json::Value = serde_json::from_str(&document(json, release)).unwrap();
    let decode = |action: &serde_json::Value| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(action.as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    document["Actions"].as_array().unwrap().iter().map(decode).collect()
}

const RELEASES: [Release; 4] = [Release::V0_18, Release::V0_17, Release::V0_13, Release::V0_11];

#[test]
fn a_merge_op_has_the_digest_that_buildkit_gives_it() {
    let json = r#"{"Op":{"merge":{"inputs":[{},{"input":1}]}}}"#;
    let hashed = "sha256:436287a2dc2ce494f564331be9ea3a9f27ebec398567877043da2f618f33d6c8";
    assert_eq!(digest_of(json, Release::V0_18), hashed);
    assert_eq!(digest_of(json, Release::V0_17), hashed);
    let old = r#"{"Type":"buildkit.merge.v0","Merge":{"inputs":[{"input":0},{"input":1}]}}"#;
    assert_eq!(digest_of(json, Release::V0_13), Digest::of(old).to_string());
    assert_eq!(digest_of(json, Release::V0_11), old);
}

#[test]
fn a_diff_op_has_the_digest_that_buildkit_gives_it() {
    let json = r#"{"Op":{"diff":{"lower":{"input":-1},"upper":{}}}}"#;
    let hashed = "sha256:f5284a0f1782a8c2cdb29841228c32706cbf04332ad37c3c7cb41659c6eeba0a";
    assert_eq!(digest_of(json, Release::V0_18), hashed);
    let old = r#"{"Type":"buildkit.diff.v0","Diff":{"lower":{"input":-1},"upper":{"input":0}}}"#;
    assert_eq!(digest_of(json, Release::V0_13), Digest::of(old).to_string());
    assert_eq!(digest_of(json, Release::V0_11), old);
}

#[test]
fn a_passthrough_op_has_the_digest_that_buildkit_gives_it() {
    let json = r#"{"Op":{"passthrough":{"id":"a<b","outputs":[0]}}}"#;
    let hashed = "sha256:18f091903e837f0ad95f02904a8c4451f0d06cdfefdbc869f9a4a5d017579ccb";
    assert_eq!(digest_of(json, Release::V0_18), hashed);
}

#[test]
fn a_build_op_has_the_digest_that_buildkit_gives_it() {
    let json = r#"{"Op":{"build":{"builder":-1,
        "inputs":{"z":{"input":1},"buildkit.llb.definition":{}},"attrs":{"b":"1","a":"2"}}}}"#;
    let hashed = "sha256:af70ac14f9d028b343a2f7ca746a843cafac979b6756a93436ff77c63dd8b7a9";
    assert_eq!(digest_of(json, Release::V0_18), hashed);
    let old = r#"{"Type":"buildkit.build.v0","Exec":{"builder":0,"inputs":{"x":{"input":0}}}}"#;
    let json = r#"{"Op":{"build":{"inputs":{"x":{}}}}}"#;
    assert_eq!(document(json, Release::V0_13), old);
    let carrying = op(r#"{"Op":{"build":{"builder":-1,"def":{"def":["aGk="]}}}}"#);
    let refused = super::digest(&carrying, Encoding::NEWEST, &amd64());
    let error = refused.unwrap_err();
    assert!(matches!(error, NotComputable::NestedDefinition), "{error}");
    assert_eq!(error.to_string(), "it is a nested build that carries its own definition");
}

#[test]
fn a_symlink_action_has_the_digest_that_buildkit_gives_it() {
    let json = r#"{"inputs":[{}],"Op":{"file":{"actions":[{"input":0,"secondaryInput":-1,"output":0,
        "Action":{"symlink":{"oldpath":"/a","newpath":"/b","timestamp":-1}}}]}}}"#;
    let hashed = "sha256:23428530006dcd180b69e23c5636642e9a061d9ecec7683e15f433c7cec632b5";
    assert_eq!(digest_of(json, Release::V0_18), hashed);
}

#[test]
fn a_symlink_that_provenance_lost_is_not_computable() {
    for action in [r#""Action":{}"#, r#""Action":null"#] {
        let json = format!(
            r#"{{"Op":{{"file":{{"actions":[{{"Action":{{"rm":{{}}}}}},{{"input":0,{action}}}]}}}}}}"#
        );
        let Kind::File(file) = &op(&json).kind else { panic!("{json}") };
        assert_eq!(file.actions[1].action, Action::Lost);
        let refused = super::digest(&op(&json), Encoding::NEWEST, &amd64());
        let error = refused.unwrap_err();
        assert!(matches!(error, NotComputable::LostAction { index: 1 }), "{error}");
        let message = "the provenance does not say what action 1 does";
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn mkdir_and_copy_from_an_action() {
    let json = r#"{"Op":{"file":{"actions":[
        {"input":-1,"secondaryInput":-1,"output":-1,"Action":{"mkdir":{"path":"/a"}}},
        {"input":0,"secondaryInput":1,"output":0,"Action":{"copy":{"src":"/x/y","dest":"/z"}}}]}}}"#;
    let one_input = json.replacen('{', r#"{"inputs":[{}],"#, 1);
    assert_eq!(
        actions(&one_input, Release::V0_18),
        [r#"{"path":"/a"}"#, r#"{"src":"/x/y","dest":"/z"}"#]
    );
    assert!(document(&one_input, Release::V0_18).ends_with(r#""indexes":[[-1,-1,-1],[0,1,0]]}"#));
    let two_inputs = json.replacen('{', r#"{"inputs":[{},{}],"#, 1);
    assert_eq!(actions(&two_inputs, Release::V0_18)[1], r#"{"src":"y","dest":"/z"}"#);
}

#[test]
fn exec_with_a_locked_cache_mount() {
    let json = r#"{"Op":{"exec":{
        "meta":{"args":["/bin/sh","-c","echo hi > /cache/x"],"env":["PATH=/bin"],"cwd":"/app",
            "removeMountStubsRecursive":true,"proxy_env":{"http_proxy":"p"}},
        "mounts":[{"dest":"/"},{"input":-1,"dest":"/cache","output":-1,"mountType":3,
            "cacheOpt":{"ID":"/foo","sharing":2}}]}},
        "platform":{"Architecture":"x86_64","OS":"linux"}}"#;
    assert_eq!(
        document(json, Release::V0_18),
        concat!(
            r#"{"Type":"buildkit.exec.v0","Exec":{"meta":{"args":["/bin/sh","-c","#,
            r#""echo hi \u003e /cache/x"],"env":["PATH=/bin"],"cwd":"/app","#,
            r#""removeMountStubsRecursive":true},"mounts":[{"dest":"/"},{"input":-1,"#,
            r#""dest":"/cache","output":-1,"mountType":3,"cacheOpt":{}}]},"#,
            r#""OS":"linux","Arch":"amd64"}"#
        )
    );
    let hashed = "sha256:048968fa192a3b55c9b264027be715cc8ca32ad636455f4587f177331dcc7e90";
    assert_eq!(digest_of(json, Release::V0_18), hashed);
    let old = document(json, Release::V0_13);
    assert!(old.contains(r#"[{"input":0,"dest":"/","output":0},"#), "{old}");
    assert!(old.contains(r#""cacheOpt":{}"#), "{old}");
    let oldest = document(json, Release::V0_11);
    assert!(oldest.contains(r#""cacheOpt":{"ID":"/foo","sharing":2}"#), "{oldest}");
}

/// The hashed `cacheOpt` of a cache mount at `/cache`.
fn hashed_cache_opt(id: &str, sharing: i32) -> String {
    let json = format!(
        r#"{{"Op":{{"exec":{{"mounts":[{{"dest":"/"}},{{"dest":"/cache","mountType":3,
            "cacheOpt":{{"ID":"{id}","sharing":{sharing}}}}}]}}}}}}"#
    );
    let document: serde_json::Value =
        serde_json::from_str(&document(&json, Release::V0_18)).unwrap();
    document["Exec"]["mounts"][1]["cacheOpt"].to_string()
}

#[test]
fn only_default_cache_options_are_kept() {
    assert_eq!(hashed_cache_opt("/cache", 0), r#"{"ID":"/cache"}"#);
    assert_eq!(hashed_cache_opt("//cache", 0), r#"{"ID":"//cache"}"#);
    assert_eq!(hashed_cache_opt("namespace//cache", 0), r#"{"ID":"namespace//cache"}"#);
    for (id, sharing) in
        [("", 0), ("cache", 0), ("/foo", 0), ("a/b//cache", 0), ("/cache", 1), ("//cache", 2)]
    {
        assert_eq!(hashed_cache_opt(id, sharing), "{}", "{id} {sharing}");
    }
}

#[test]
fn only_a_single_plain_root_mount_is_left_out() {
    let left_out = |mounts: &str| {
        let json = format!(r#"{{"Op":{{"exec":{{"mounts":[{mounts}]}}}}}}"#);
        !document(&json, Release::V0_18).contains("mounts")
    };
    for mount in [
        r#"{"dest":"/"}"#,
        r#"{"dest":"/","input":2,"output":-1,"selector":"/x","contentCache":1}"#,
        r#"{"dest":"/","TmpfsOpt":{"size":1}}"#,
    ] {
        assert!(left_out(mount), "{mount}");
    }
    for mounts in [
        r#"{"dest":"/x"}"#,
        r#"{"dest":"/","readonly":true}"#,
        r#"{"dest":"/","mountType":4}"#,
        r#"{"dest":"/","cacheOpt":{}}"#,
        r#"{"dest":"/","secretOpt":{}}"#,
        r#"{"dest":"/","SSHOpt":{}}"#,
        r#"{"dest":"/","resultID":"r"}"#,
        r#"{"dest":"/"},{"dest":"/y"}"#,
    ] {
        assert!(!left_out(mounts), "{mounts}");
    }
}

#[test]
fn every_field_of_exec_in_order() {
    let json = r#"{"Op":{"exec":{
        "cdiDevices":[{"optional":true,"name":"v/c=d"}],
        "secretenv":[{"optional":true,"name":"N","ID":"s"}],
        "security":1,"network":2,
        "mounts":[{"contentCache":2,"resultID":"r","SSHOpt":{"optional":true,"mode":1,"gid":2,
            "uid":3,"ID":"i"},"secretOpt":{"ID":"j"},"cacheOpt":{"ID":"/d"},"TmpfsOpt":{"size":9},
            "mountType":1,"readonly":true,"output":4,"dest":"/d","selector":"/sel","input":5}],
        "meta":{"validExitCodes":[0,3],"removeMountStubsRecursive":true,"cgroupParent":"g",
            "ulimit":[{"Hard":-1,"Soft":9223372036854776000,"Name":"u"}],"hostname":"h",
            "extraHosts":[{"IP":"1.2.3.4","Host":"x"}],"user":"me","cwd":"/","env":["E=1"],
            "args":["a"]}}},
        "platform":{"OS":"Linux","Architecture":"arm","OSVersion":"1","OSFeatures":["b","a"]},
        "constraints":{}}"#;
    let document = document(json, Release::V0_18);
    assert_eq!(
        document,
        concat!(
            r#"{"Type":"buildkit.exec.v0","Exec":{"meta":{"args":["a"],"env":["E=1"],"cwd":"/","#,
            r#""user":"me","extraHosts":[{"Host":"x"}],"hostname":"h","#,
            r#""ulimit":[{"Name":"u","Soft":9223372036854775807,"Hard":-1}],"cgroupParent":"g","#,
            r#""removeMountStubsRecursive":true,"validExitCodes":[0,3]},"#,
            r#""mounts":[{"input":5,"dest":"/d","output":4,"readonly":true,"mountType":1,"#,
            r#""TmpfsOpt":{"size":9},"cacheOpt":{"ID":"/d"},"secretOpt":{"ID":"j"},"#,
            r#""SSHOpt":{"ID":"i","uid":3,"gid":2,"mode":1,"optional":true},"resultID":"r","#,
            r#""contentCache":2}],"network":2,"security":1,"#,
            r#""secretenv":[{"ID":"s","name":"N","optional":true}],"#,
            r#""cdiDevices":[{"name":"v/c=d","optional":true}]},"#,
            r#""OS":"linux","Arch":"arm","Variant":"v7","OSVersion":"1","OSFeatures":["a","b"]}"#
        )
    );
    let oldest = self::document(json, Release::V0_11);
    assert!(oldest.ends_with(r#""Variant":"v7"}"#), "{oldest}");
}

#[test]
fn every_field_of_file_actions_in_order() {
    let json = r#"{"inputs":[{},{}],"Op":{"file":{"actions":[
        {"input":0,"secondaryInput":1,"output":-1,"Action":{"copy":{
            "required_paths":["r"],"modeStr":"u+x","alwaysReplaceExistingDestPaths":true,
            "exclude_patterns":["e"],"include_patterns":["i"],"timestamp":-1,
            "allowEmptyWildcard":true,"allowWildcard":true,"createDestPath":true,
            "attemptUnpackDockerCompatibility":true,"dirCopyContents":true,"followSymlink":true,
            "mode":-1,"owner":{"group":{"User":{"byId":5}}},"dest":"/d","src":"/a/b/"}}},
        {"input":2,"secondaryInput":-1,"output":-1,"Action":{"mkfile":{
            "timestamp":7,"owner":{},"data":"PD4m","mode":420,"path":"/f"}}},
        {"input":3,"secondaryInput":-1,"output":-1,"Action":{"mkdir":{
            "timestamp":-1,"makeParents":true,"mode":493,"path":"/m"}}},
        {"input":4,"secondaryInput":-1,"output":0,"Action":{"rm":{
            "allowWildcard":true,"allowNotFound":true,"path":"/r"}}}]}}}"#;
    assert_eq!(
        actions(json, Release::V0_18),
        [
            concat!(
                r#"{"src":"b","dest":"/d","owner":{"group":{"User":{"byId":5}}},"mode":-1,"#,
                r#""followSymlink":true,"dirCopyContents":true,"#,
                r#""attemptUnpackDockerCompatibility":true,"createDestPath":true,"#,
                r#""allowWildcard":true,"allowEmptyWildcard":true,"timestamp":-1,"#,
                r#""include_patterns":["i"],"exclude_patterns":["e"],"#,
                r#""alwaysReplaceExistingDestPaths":true,"modeStr":"u+x","required_paths":["r"]}"#
            ),
            r#"{"path":"/f","mode":420,"data":"PD4m","owner":{},"timestamp":7}"#,
            r#"{"path":"/m","mode":493,"makeParents":true,"timestamp":-1}"#,
            r#"{"path":"/r","allowNotFound":true,"allowWildcard":true}"#,
        ]
    );
    let document = document(json, Release::V0_18);
    let indexes = r#""indexes":[[0,1,-1],[2,-1,-1],[3,-1,-1],[4,-1,0]]}"#;
    assert!(document.ends_with(indexes), "{document}");
}

#[test]
fn user_options_of_every_release() {
    let by_release = |user: &str| {
        let json = format!(
            r#"{{"Op":{{"file":{{"actions":[{{"Action":{{"rm":null,"mkdir":{{"owner":{{
                "user":{{"User":{user}}}}}}}}}}}]}}}}}}"#
        );
        RELEASES.map(|release| {
            let action = actions(&json, release).remove(0);
            let user = action.strip_prefix(r#"{"owner":{"user":"#).unwrap();
            user.strip_suffix("}}").unwrap().to_owned()
        })
    };
    let name = [
        r#"{"User":{"byName":{"name":"joe"}}}"#,
        r#"{"User":{"ByName":{"name":"joe"}}}"#,
        r#"{"User":{"byName":{"name":"joe","input":0}}}"#,
        r#"{"User":{"byName":{"name":"joe","input":0}}}"#,
    ];
    let thousand = [
        r#"{"User":{"byId":1000}}"#,
        r#"{"User":{"ByID":1000}}"#,
        r#"{"User":{"byID":1000}}"#,
        r#"{"User":{"byID":1000}}"#,
    ];
    let zero = [r#"{"User":{}}"#, r#"{"User":{"ByID":0}}"#, r#"{"User":{}}"#, r#"{"User":{}}"#];
    // The spellings of all releases are read alike.
    for spelling in [r#"{"byName":{"name":"joe","input":0}}"#, r#"{"ByName":{"name":"joe"}}"#] {
        assert_eq!(by_release(spelling), name);
    }
    for spelling in [r#"{"byId":1000}"#, r#"{"ByID":1000}"#, r#"{"byID":1000}"#] {
        assert_eq!(by_release(spelling), thousand);
    }
    for spelling in ["{}", "null", r#"{"ByID":0}"#] {
        assert_eq!(by_release(spelling), zero);
    }
}

#[test]
fn every_release_spells_the_same_op() {
    let newest = r#"{"inputs":[{}],"Op":{"file":{"actions":[{"secondaryInput":-1,
        "Action":{"copy":{"src":"/a"}}}]}}}"#;
    let v0_17 = r#"{"inputs":[{}],"Op":{"File":{"actions":[{"secondaryInput":-1,
        "Action":{"Copy":{"src":"/a"}}}]}}}"#;
    let v0_11 = r#"{"inputs":[{"digest":"","index":0}],"Op":{"file":{"actions":[{"input":0,
        "secondaryInput":-1,"output":0,"Action":{"copy":{"src":"/a"}}}]}},
        "platform":null,"constraints":{}}"#;
    assert_eq!(op(newest), op(v0_17));
    assert_eq!(op(newest), op(v0_11));
    for (name, capitalised) in [
        ("exec", "Exec"),
        ("build", "Build"),
        ("merge", "Merge"),
        ("diff", "Diff"),
        ("source", "Source"),
    ] {
        let kind = |key| op(&format!(r#"{{"Op":{{"{key}":{{}}}}}}"#)).kind;
        assert_eq!(kind(name), kind(capitalised));
        assert_ne!(kind(name), Kind::Return);
    }
}

#[test]
fn the_last_vertex_is_no_op_and_others_are_unknown() {
    for json in ["{}", r#"{"Op":{}}"#, r#"{"Op":null}"#] {
        assert_eq!(op(json).kind, Kind::Return, "{json}");
    }
    assert_eq!(op(r#"{"Op":{"teleport":{"to":"/"}}}"#).kind, Kind::Unknown);
}

#[test]
fn control_characters_depend_on_the_generation_of_go() {
    let json = r#"{"Op":{"passthrough":{"id":"a\b\f\u0001"}}}"#;
    let with = |escapes| {
        let encoding = Encoding { release: Release::V0_13, escapes };
        digest(&op(json), encoding, &amd64()).unwrap().to_string()
    };
    let document =
        |id| format!(r#"{{"Type":"buildkit.passthrough.v0","Passthrough":{{"id":"{id}"}}}}"#);
    let short = Digest::of(document(r"a\b\f\u0001")).to_string();
    let long = Digest::of(document(r"a\u0008\u000c\u0001")).to_string();
    assert_eq!(with(ControlEscapes::Short), short);
    assert_eq!(with(ControlEscapes::Long), long);
}

#[test]
fn an_op_without_platform_runs_on_the_daemon_s() {
    let json = r#"{"Op":{"exec":{"meta":{"args":["a"]}}}}"#;
    let on =
        |platform: &str| digest(&op(json), Encoding::NEWEST, &platform.parse().unwrap()).unwrap();
    let expected = |platform: &str| {
        OpDigest::from(Digest::of(format!(
            r#"{{"Type":"buildkit.exec.v0","Exec":{{"meta":{{"args":["a"]}}}},{platform}}}"#
        )))
    };
    assert_eq!(on("linux/aarch64/v8"), expected(r#""OS":"linux","Arch":"arm64""#));
    assert_eq!(on("linux/arm"), expected(r#""OS":"linux","Arch":"arm","Variant":"v7""#));
}

#[test]
fn outputs_are_those_of_mounts_and_actions() {
    let exec = |outputs: &[i64]| {
        let mounts: Vec<_> = outputs.iter().map(|o| format!(r#"{{"output":{o}}}"#)).collect();
        op(&format!(r#"{{"Op":{{"exec":{{"mounts":[{}]}}}}}}"#, mounts.join(","))).outputs()
    };
    assert_eq!(exec(&[]), 1);
    assert_eq!(exec(&[-1]), 1);
    assert_eq!(exec(&[0]), 1);
    assert_eq!(exec(&[-1, 0, 1, -1]), 2);
    assert_eq!(op(r#"{"Op":{"passthrough":{"outputs":[4,4,4]}}}"#).outputs(), 3);
    assert_eq!(op(r#"{"Op":{"merge":{}}}"#).outputs(), 1);
    // An output index invented to cause long loops.
    assert_eq!(exec(&[i64::MAX]), 2);
}

#[test]
fn names_are_short_and_fit_for_a_terminal() {
    let name = |json: &str| step_name(&op(json));
    let run = |args: &str| name(&format!(r#"{{"Op":{{"exec":{{"meta":{{"args":[{args}]}}}}}}}}"#));
    assert_eq!(run(r#""/bin/sh","-c","make -j2""#), "RUN make -j2");
    assert_eq!(run(r#""/bin/x","y""#), "RUN /bin/x y");
    assert_eq!(run(r#""sh","-c","a\n\u001b[31mb\u0007""#), "RUN a  [31mb");
    let long = run(&format!(r#""sh","-c","{}""#, "é".repeat(500)));
    assert_eq!(long.chars().count(), 80);
    assert!(long.ends_with("éé…"), "{long}");
    let copies = r#"{"Op":{"file":{"actions":[
        {"Action":{"copy":{"src":"/a","dest":"/d/"}}},{"Action":{"copy":{"src":"/b","dest":"/d/"}}},
        {"Action":{"mkdir":{"path":"/m"}}},{"Action":{}},{"Action":{"rm":{"path":"/r"}}}]}}}"#;
    assert_eq!(name(copies), "COPY /a /b /d/, MKDIR /m, SYMLINK ?, RM /r");
}

#[test]
fn op_digests_are_what_cache_db_can_hold() {
    for text in ["", "a@b"] {
        let error = OpDigest::try_from(text.to_owned()).unwrap_err();
        assert_eq!(error, InvalidOpDigest { text: text.to_owned() });
        let message = error.to_string();
        assert!(message.starts_with(&format!("{text:?} is not an op digest: ")), "{message}");
    }
    let raw = OpDigest::try_from(r#"{"Type":"x"}"#.to_owned()).unwrap();
    assert_eq!(raw.record(3), Digest::of(r#"{"Type":"x"}@3"#));
}
