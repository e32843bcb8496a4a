//! What a command of the user's prints about changes.

use crate::extent::{Extent, joined};
use crate::units::readable;

const FORMAT: u32 = 1;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    extents: Vec<(u64, u64)>,
}

/// Reads `{"format": 1, "extents": [[OFFSET, LENGTH], …]}`, in bytes, about a disk of `size_bytes`.
/// What is given back is sorted and disjoint.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_changed(bytes: &[u8], size_bytes: u64) -> Result<Vec<Extent>, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(readable)?;
    if document.format != FORMAT {
        return Err(format!("it has format {}; format {FORMAT} is read", document.format));
    }
    let mut extents = Vec::with_capacity(document.extents.len());
    for (start, len) in document.extents {
        match Extent::new(start, len) {
            Some(extent) if extent.end() <= size_bytes => extents.push(extent),
            _ => {
                let disk = format!("the disk has {size_bytes}");
                return Err(format!("{len} bytes from byte {start} are listed, {disk}"));
            }
        }
    }
    Ok(joined(extents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_sorted_and_joined() {
        let found =
            parse_changed(br#"{"format":1,"extents":[[8192,0],[4096,4096],[0,4096]]}"#, 8192);
        assert_eq!(found.unwrap(), [Extent::between(0, 8192)]);
        assert_eq!(parse_changed(br#"{"format":1,"extents":[]}"#, 0).unwrap(), []);
    }

    #[test]
    fn a_list_that_is_not_one_is_refused_in_words() {
        for (text, reason) in [
            ("", "EOF"),
            ("{}", "missing"),
            (r#"{"format":2,"extents":[]}"#, "format 2"),
            (r#"{"format":1,"extents":[[0,8193]]}"#, "the disk has 8192"),
            (r#"{"format":1,"extents":[[8193,0]]}"#, "the disk has 8192"),
            (r#"{"format":1,"extents":[[18446744073709551615,2]]}"#, "the disk has 8192"),
            (r#"{"format":1,"extents":[[0,-1]]}"#, "-1"),
            (r#"{"format":1,"extents":[[0]]}"#, "length"),
            (r#"{"format":1,"extents":[],"more":1}"#, "more"),
            (r#"{"format":1,"extents":[]} and more"#, "trailing"),
        ] {
            let found = parse_changed(text.as_bytes(), 8192).unwrap_err();
            assert!(found.contains(reason), "{text}: {found}");
        }
    }
}
