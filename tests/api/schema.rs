//! Values held against the schemas of the OpenAPI document, as far as the document uses them.

use serde_json::Value;

/// The document.
pub struct Document(pub Value);

impl Document {
    pub fn new() -> Self {
        Self(serde_json::to_value(afterimage::api::document()).unwrap())
    }

    /// The operation of a path.
    pub fn operation(&self, method: &str, path: &str) -> &Value {
        let found = self.0["paths"].get(path).and_then(|it| it.get(method.to_lowercase()));
        found.unwrap_or_else(|| panic!("{method} {path} is not in the document"))
    }

    /// Why an answer is not what the document says of an operation.
    pub fn check(
        &self,
        method: &str,
        path: &str,
        answer: &crate::client::Answer,
    ) -> Result<(), String> {
        let responses = &self.operation(method, path)["responses"];
        let status = answer.status.to_string();
        let own = responses.get(&status);
        let is_error = answer.status >= 400;
        let response = match (own, is_error) {
            (Some(own), _) => own,
            (None, true) => &responses["default"],
            (None, false) => return Err(format!("{status} is not in the document")),
        };
        let Some(content) = response.get("content").and_then(Value::as_object) else {
            return match answer.body.is_empty() {
                true => Ok(()),
                false => Err("it has a body that the document does not tell of".to_owned()),
            };
        };
        let kind = answer.header("content-type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default();
        let Some(media) = content.get(kind) else {
            return Err(format!("{kind} is not in the document: {content:?}"));
        };
        match kind.ends_with("json") {
            true => self.matches(&media["schema"], &answer.json(), "$"),
            false => Ok(()),
        }
    }

    /// Why a value does not fit a schema.
    pub fn matches(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = self.0.pointer(reference.trim_start_matches('#'));
            let target = target.ok_or_else(|| format!("{at}: {reference} is not there"))?;
            return self.matches(target, value, at);
        }
        for part in list(schema, "allOf") {
            self.matches(part, value, at)?;
        }
        for (key, exactly) in [("oneOf", true), ("anyOf", false)] {
            let parts = list(schema, key);
            let results: Vec<_> = parts.iter().map(|part| self.matches(part, value, at)).collect();
            let good = results.iter().filter(|result| result.is_ok()).count();
            if !parts.is_empty() && (good == 0 || exactly && good > 1) {
                return Err(format!("{at}: {good} of {key} fit: {results:?}"));
            }
        }
        self.types(schema, value, at)?;
        if let Some(choices) = schema.get("enum").and_then(Value::as_array)
            && !choices.contains(value)
        {
            return Err(format!("{at}: {value} is none of {choices:?}"));
        }
        if let (Some(pattern), Some(text)) =
            (schema.get("pattern").and_then(Value::as_str), value.as_str())
            && !fits(pattern, text)
        {
            return Err(format!("{at}: {text} does not fit {pattern}"));
        }
        if let Some(least) = schema.get("minimum").and_then(Value::as_f64)
            && value.as_f64().is_some_and(|number| number < least)
        {
            return Err(format!("{at}: {value} is less than {least}"));
        }
        if schema.get("format").and_then(Value::as_str) == Some("date-time")
            && value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_err())
        {
            return Err(format!("{at}: {value} is no time"));
        }
        self.members(schema, value, at)
    }

    fn types(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let types: Vec<&str> = match schema.get("type") {
            None => return Ok(()),
            Some(Value::String(one)) => vec![one],
            Some(several) => several.as_array().unwrap().iter().filter_map(Value::as_str).collect(),
        };
        let is = |kind: &&str| match *kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other} is no type"),
        };
        if types.iter().any(is) { Ok(()) } else { Err(format!("{at}: {value} is no {types:?}")) }
    }

    fn members(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            for (index, value) in values.iter().enumerate() {
                self.matches(items, value, &format!("{at}[{index}]"))?;
            }
        }
        let Some(object) = value.as_object() else { return Ok(()) };
        for required in list(schema, "required") {
            if !object.contains_key(required.as_str().unwrap()) {
                return Err(format!("{at}: {required} is missing"));
            }
        }
        let none = serde_json::Map::new();
        let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        for (key, schema) in known {
            if let Some(value) = object.get(key) {
                self.matches(schema, value, &format!("{at}.{key}"))?;
            }
        }
        Ok(())
    }

    /// Names of fields that the document does not tell of, anywhere in a value.
    pub fn unknown_fields(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut known = std::collections::BTreeSet::new();
        if !self.collect(schema, &mut known, 0) {
            return Vec::new();
        }
        let mut unknown = Vec::new();
        fields(value, &mut |field| {
            if !known.contains(field) {
                unknown.push(field.to_owned());
            }
        });
        unknown
    }

    /// All names of fields below a schema; `false`: anything may be there.
    fn collect(
        &self,
        schema: &Value,
        known: &mut std::collections::BTreeSet<String>,
        depth: u32,
    ) -> bool {
        assert!(depth < 40, "the document goes in circles");
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = self.0.pointer(reference.trim_start_matches('#')).unwrap();
            return self.collect(target, known, depth + 1);
        }
        let mut is_closed = true;
        for key in ["allOf", "oneOf", "anyOf"] {
            for part in list(schema, key) {
                is_closed &= self.collect(part, known, depth + 1);
            }
        }
        if let Some(items) = schema.get("items") {
            is_closed &= self.collect(items, known, depth + 1);
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let is_object = schema.get("type").is_some_and(|kind| kind == "object");
        if is_object && properties.is_none() {
            return false;
        }
        for (name, schema) in properties.into_iter().flatten() {
            known.insert(name.clone());
            is_closed &= self.collect(schema, known, depth + 1);
        }
        is_closed
    }
}

fn list<'a>(schema: &'a Value, key: &str) -> &'a [Value] {
    schema.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn fields(value: &Value, each: &mut impl FnMut(&str)) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                each(name);
                fields(value, each);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, each)),
        _ => {}
    }
}

/// The few patterns that there are: one class of characters, and how many.
fn fits(pattern: &str, text: &str) -> bool {
    let inner = pattern.strip_prefix("^[").unwrap().strip_suffix("}$").unwrap();
    let (class, count) = inner.split_once("]{").unwrap();
    let (least, most) = count.split_once(',').unwrap_or((count, count));
    let range = least.parse::<usize>().unwrap()..=most.parse().unwrap();
    let is_in = |c: char| match class {
        "0-9a-f" => c.is_ascii_digit() || ('a'..='f').contains(&c),
        "A-Za-z0-9._-" => c.is_ascii_alphanumeric() || "._-".contains(c),
        other => panic!("{other} is no known class"),
    };
    range.contains(&text.chars().count()) && text.chars().all(is_in)
}

#[test]
fn the_validator_finds_what_is_wrong() {
    use serde_json::json;
    let document = Document(json!({
        "components": { "schemas": { "Run": {
            "type": "object", "required": ["id", "n"],
            "properties": {
                "id": { "type": "string", "pattern": "^[0-9a-f]{4}$" },
                "n": { "type": ["integer", "null"], "minimum": 1 },
                "at": { "type": "string", "format": "date-time" },
                "kind": { "enum": ["a", "b"] }
            }
        } } }
    }));
    let schema = json!({ "type": "array", "items": { "$ref": "#/components/schemas/Run" } });
    let check = |value: Value| document.matches(&schema, &value, "$");
    check(json!([{ "id": "00ff", "n": null, "at": "2026-11-28T10:00:00Z", "kind": "a" }])).unwrap();
    for wrong in [
        json!({}),
        json!([{ "n": 1 }]),
        json!([{ "id": "00fg", "n": 1 }]),
        json!([{ "id": "00ff", "n": 0 }]),
        json!([{ "id": "00ff", "n": "1" }]),
        json!([{ "id": "00ff", "n": 1, "at": "noon" }]),
        json!([{ "id": "00ff", "n": 1, "kind": "c" }]),
    ] {
        assert!(check(wrong.clone()).is_err(), "{wrong}");
    }
    assert_eq!(document.unknown_fields(&schema, &json!([{ "id": 1, "x": 2 }])), ["x"]);
    let one = json!({ "oneOf": [{ "type": "string" }, { "type": "integer" }] });
    assert!(document.matches(&one, &json!(1), "$").is_ok());
    assert!(document.matches(&one, &json!(1.5), "$").is_err());
}
