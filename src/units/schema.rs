//! What the documents of the API say of numbers and names.

use super::{
    ChunkName, Hex, MachineId, Name, ObjectName, PackName, PointId, RepositoryId, RunId, Sequence,
    SlotId,
};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A text that fits `pattern`.
fn text(pattern: &str, description: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .description(Some(description));
    RefOr::T(Schema::Object(object.build()))
}

macro_rules! text_schema {
    ($type:ident, $pattern:expr, $description:expr) => {
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                text($pattern, $description)
            }
        }

        impl ToSchema for $type {}
    };
}

const ID: &str = "^[0-9a-f]{32}$";
const DIGEST: &str = "^[0-9a-f]{64}$";

text_schema!(Name, "^[A-Za-z0-9._-]{1,64}$", "A name of the settings.");
text_schema!(RunId, ID, "A run.");
text_schema!(RepositoryId, ID, "A repository.");
text_schema!(MachineId, ID, "A machine.");
text_schema!(SlotId, ID, "A key slot.");
text_schema!(PointId, DIGEST, "A recovery point: SHA-256 of its manifest.");
text_schema!(PackName, DIGEST, "A pack: SHA-256 of its file.");
text_schema!(ChunkName, DIGEST, "A chunk of content.");
text_schema!(ObjectName, DIGEST, "Something that lies in a pack.");

impl PartialSchema for Sequence {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .description(Some("Position of a point in the history of its machine."));
        RefOr::T(Schema::Object(object.build()))
    }
}

impl ToSchema for Sequence {}

impl<const N: usize> PartialSchema for Hex<N> {
    fn schema() -> RefOr<Schema> {
        text(&format!("^[0-9a-f]{{{}}}$", 2 * N), "Bytes as hexadecimal digits.")
    }
}

impl<const N: usize> ToSchema for Hex<N> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("Hex{N}").into()
    }
}
