//! The tables of `docs/reference/json.md`, which are generated from the schemas.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;
use testkit::schema::schemas;

use super::*;

const PAGE: &str = "../../docs/reference/json.md";
const START: &str = "<!-- schema: ";
const END: &str = "<!-- /schema -->";

/// Resolves a `$ref` in `file`: its file, its name, and the schema.
fn target<'r>(file: &'r str, reference: &'r str) -> (&'r str, &'r str, &'static Value) {
    let (named, pointer) = reference.split_once('#').unwrap_or((reference, ""));
    let file = if named.is_empty() { file } else { named };
    let name = pointer.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(file);
    (file, name, schemas().unwrap().documents[file].pointer(pointer).unwrap())
}

/// Describes the type of a member. Objects of several documents are links to their own table.
fn kind(file: &str, schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let (of, name, schema) = target(file, reference);
        return match name {
            "digest" | "time" | "size" | "count" | "index" | "release" => name.to_owned(),
            _ if schema["properties"].is_null() => kind(of, schema),
            _ if of == file => "object".to_owned(),
            _ => {
                let name = name.trim_end_matches(".json");
                format!("[{name}](#{name})")
            }
        };
    }
    if let Some([way, .., _null]) = schema["anyOf"].as_array().map(Vec::as_slice) {
        return format!("{} or null", kind(file, way));
    }
    if !schema["const"].is_null() {
        return format!("`{}`", schema["const"].as_str().unwrap());
    }
    let (name, or_null) = match &schema["type"] {
        Value::Array(types) => (types[0].as_str().unwrap(), " or null"),
        one => (one.as_str().unwrap(), ""),
    };
    let name = match name {
        "string" if schema["enum"].is_array() => "word".to_owned(),
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => format!("list: {}", kind(file, &schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map: {}", kind(file, &schema["additionalProperties"]))
        }
        name => name.to_owned(),
    };
    name + or_null
}

/// Returns the members of an object, required ones first.
fn members(schema: &Value) -> Vec<(&String, &Value)> {
    let required: Vec<_> = schema["required"].as_array().unwrap().iter().collect();
    let mut members: Vec<_> = schema["properties"].as_object().unwrap().iter().collect();
    members
        .sort_by_key(|(name, _)| required.iter().position(|it| it == name).unwrap_or(usize::MAX));
    members
}

/// Adds a row for each member of the schema at `path`, and for their members.
fn add_rows(file: &str, path: &str, schema: &Value, rows: &mut String) {
    if let Some(reference) = schema["$ref"].as_str() {
        let (of, _, schema) = target(file, reference);
        if of == file {
            add_rows(file, path, schema, rows);
        }
        return;
    }
    for way in schema["anyOf"].as_array().into_iter().flatten() {
        let path = match way["$ref"].as_str().map(|it| &target(file, it).2["properties"]["kind"]) {
            Some(Value::Object(kind)) => format!("{path}({})", kind["const"].as_str().unwrap()),
            _ => path.to_owned(),
        };
        add_rows(file, &path, way, rows);
    }
    if schema["items"].is_object() {
        add_rows(file, &format!("{path}[]"), &schema["items"], rows);
    } else if schema["additionalProperties"].is_object() {
        add_rows(file, &format!("{path}{{}}"), &schema["additionalProperties"], rows);
    } else if schema["properties"].is_object() {
        for (name, member) in members(schema) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let text = member["description"].as_str().unwrap();
            writeln!(rows, "| `{path}` | {} | {text} |", kind(file, member)).unwrap();
            add_rows(file, &path, member, rows);
        }
    }
}

/// Returns the table of the schema that `reference` names.
fn table(reference: &str) -> String {
    let (file, _, schema) = target("", reference);
    let mut rows = "| member | | |\n|---|---|---|\n".to_owned();
    add_rows(file, "", schema, &mut rows);
    format!("{}\n\n{rows}", schema["description"].as_str().unwrap())
}

/// Returns the page with its tables regenerated.
fn remade(page: &str) -> String {
    let mut text = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        writeln!(text, "{line}").unwrap();
        if let Some(named) = line.strip_prefix(START) {
            text += &table(named.trim_end_matches(" -->"));
            lines.find(|line| *line == END).unwrap();
            writeln!(text, "{END}").unwrap();
        }
    }
    text
}

#[test]
fn the_page_has_every_document_and_its_members() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let remade = remade(&page);
    if std::env::var_os("OCI2BK_BLESS").is_some() {
        fs::write(&path, &remade).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert!(
        page == remade,
        "{} is not what the schemas say; run with OCI2BK_BLESS=1",
        path.display()
    );
    for file in schemas().unwrap().documents.keys().filter(|file| *file != "common.json") {
        assert!(page.contains(&format!("{START}{file} -->")), "{file} is not on the page");
        assert!(page.contains(&format!("(schemas/{file})")), "nothing leads to {file}");
    }
}
