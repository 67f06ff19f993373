//! Ties model types to their JSON schemas, when the description of the API is being made.
//!
//! Start reading at [`SchemaOf`]. Without the feature `schema` it is empty, and model types need nothing but serde.

#[cfg(feature = "schema")]
pub(crate) use with_schemas::{Described, SchemaOf};
#[cfg(not(feature = "schema"))]
pub(crate) use without_schemas::{Described, SchemaOf};

#[cfg(feature = "schema")]
mod with_schemas {
    use schemars::{JsonSchema, Schema, SchemaGenerator};

    /// A type whose JSON has a schema.
    pub(crate) trait Described: JsonSchema {}
    impl<T: JsonSchema> Described for T {}

    /// How to make the schema of one type.
    #[derive(Clone, Copy)]
    pub(crate) struct SchemaOf(fn(&mut SchemaGenerator) -> Schema);

    impl SchemaOf {
        /// The schema of `T`.
        pub(crate) fn of<T: Described>() -> Self {
            Self(SchemaGenerator::subschema_for::<T>)
        }

        /// Makes it, and puts what it refers to among the generator's definitions.
        pub(crate) fn make(self, generator: &mut SchemaGenerator) -> Schema {
            (self.0)(generator)
        }
    }
}

#[cfg(not(feature = "schema"))]
mod without_schemas {
    /// Any type.
    pub(crate) trait Described {}
    impl<T> Described for T {}

    /// Nothing.
    #[derive(Clone, Copy)]
    pub(crate) struct SchemaOf;

    impl SchemaOf {
        /// Nothing.
        pub(crate) fn of<T: Described>() -> Self {
            Self
        }
    }
}
