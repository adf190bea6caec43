//! Schemas of bodies: owns how the types of requests and responses look in the OpenAPI document.
//!
//! [`body!`](body) declares a response, its JSON and its schema at once. The derive macro of utoipa is not used for these
//! types, because it gives every number a format and leaves out of `required` what can be null: fields that are always sent
//! would be described as optional.

use serde::Serialize;
use tierkeep_core::compare::Class;
use tierkeep_core::db::Role;
use tierkeep_core::user::UserType;
use tierkeep_engine::{AlertKind, MoverPhase};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, KnownFormat, Object, ObjectBuilder, Schema,
    SchemaFormat, SchemaType,
};
use utoipa::openapi::{Ref, RefOr, Type};

/// Schemas by the names of their components.
pub(in crate::http) type Components = Vec<(String, RefOr<Schema>)>;

/// A type of a field that the document describes.
pub(in crate::http) trait Described {
    /// Its schema, or a reference to it.
    fn described() -> RefOr<Schema>;

    /// Adds the components that the schema refers to.
    fn components(_found: &mut Components) {}
}

/// Declares what an engine type or a primitive becomes in a body.
pub(in crate::http) trait BodyOf<T> {
    /// The same value as a part of a body.
    fn body_of(value: T) -> Self;
}

impl<T: BodyOf<S>, S> BodyOf<Option<S>> for Option<T> {
    fn body_of(value: Option<S>) -> Self {
        value.map(T::body_of)
    }
}

impl<T: BodyOf<S>, S> BodyOf<Vec<S>> for Vec<T> {
    fn body_of(values: Vec<S>) -> Self {
        values.into_iter().map(T::body_of).collect()
    }
}

macro_rules! described {
    ($($name:ty => $schema:expr;)*) => {$(
        impl Described for $name {
            fn described() -> RefOr<Schema> {
                RefOr::T(Schema::Object($schema.build()))
            }
        }

        impl BodyOf<$name> for $name {
            fn body_of(value: $name) -> Self {
                value
            }
        }
    )*};
}

described! {
    bool => of(Type::Boolean);
    String => of(Type::String);
    &'static str => of(Type::String);
    f64 => of(Type::Number);
    i32 => of(Type::Integer);
    i64 => of(Type::Integer);
    u64 => of(Type::Integer).minimum(Some(0));
    usize => of(Type::Integer).minimum(Some(0));
    Role => of(Type::String);
    UserType => of(Type::String).enum_values(Some(["internal", "external"]));
    MoverPhase => of(Type::String);
    AlertKind => of(Type::String);
    Class => of(Type::String);
}

/// A builder of this type alone.
pub(in crate::http) fn of(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

/// A time as RFC 3339.
#[derive(Serialize, Debug)]
#[serde(transparent)]
pub(in crate::http) struct Rfc3339(String);

impl Described for Rfc3339 {
    fn described() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        RefOr::T(of(Type::String).format(Some(format)).build().into())
    }
}

impl BodyOf<String> for Rfc3339 {
    fn body_of(value: String) -> Self {
        Self(value)
    }
}

/// A number that is never below 0.
#[derive(Serialize, Debug)]
#[serde(transparent)]
pub(in crate::http) struct NonNegative(i32);

impl Described for NonNegative {
    fn described() -> RefOr<Schema> {
        u64::described()
    }
}

impl BodyOf<i32> for NonNegative {
    fn body_of(value: i32) -> Self {
        Self(value)
    }
}

impl<T: Described> Described for Option<T> {
    fn described() -> RefOr<Schema> {
        nullable(T::described())
    }

    fn components(found: &mut Components) {
        T::components(found);
    }
}

impl<T: Described> Described for Vec<T> {
    fn described() -> RefOr<Schema> {
        RefOr::T(ArrayBuilder::new().items(T::described()).build().into())
    }

    fn components(found: &mut Components) {
        T::components(found);
    }
}

/// The schema, or null.
fn nullable(schema: RefOr<Schema>) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut scalar)) if scalar.properties.is_empty() => {
            if let SchemaType::Type(kind) = scalar.schema_type {
                scalar.schema_type = SchemaType::from_iter([kind, Type::Null]);
            }
            RefOr::T(scalar.into())
        }
        other @ (RefOr::Ref(_) | RefOr::T(_)) => {
            let null = of(Type::Null).build();
            RefOr::T(AnyOfBuilder::new().item(other).item(null).build().into())
        }
    }
}

/// A reference to the component of this name.
pub(in crate::http) fn reference(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}

/// What a user id looks like.
pub(in crate::http) const USER_ID: &str =
    "^(internal_[0-9A-Fa-f]{24}|external_[A-Za-z0-9_-]{1,39})$";
/// What the id of an internal user looks like.
pub(in crate::http) const INTERNAL_USER_ID: &str = "^internal_[0-9A-Fa-f]{24}$";

/// A whole number above 0 that is an int64.
pub(in crate::http) fn amount() -> ObjectBuilder {
    of(Type::Integer).minimum(Some(1)).maximum(Some(i64::MAX))
}

/// This value alone.
pub(in crate::http) fn constant(value: bool) -> ObjectBuilder {
    // JSON Schema has `const`, utoipa's object has no field for it.
    let keyword = Extensions::from_iter([("const", value)]);
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .extensions(Some(keyword))
}

/// An object of the fields of a request; other fields are refused.
pub(in crate::http) fn request<'a>(
    fields: impl IntoIterator<Item = (&'a str, impl Into<Schema>)>,
    required: &[&str],
) -> Object {
    let none = AdditionalProperties::FreeForm(false);
    let object = of(Type::Object).additional_properties(Some(none));
    let described = fields.into_iter().fold(object, |object, (name, schema)| {
        object.property(name, schema.into())
    });
    let object = required.iter();
    object
        .fold(described, |object, name| object.required(*name))
        .build()
}

/// The first paragraph of doc comments, as a description.
pub(in crate::http) fn description(lines: &[&str]) -> Option<String> {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    (!lines.is_empty()).then(|| lines.join(" "))
}

/// With a description, where there is one and the schema takes one.
pub(in crate::http) fn about(schema: RefOr<Schema>, lines: &[&str]) -> RefOr<Schema> {
    match schema {
        RefOr::T(Schema::Object(mut object)) => {
            object.description = description(lines);
            RefOr::T(object.into())
        }
        RefOr::T(Schema::Array(mut array)) => {
            array.description = description(lines);
            RefOr::T(array.into())
        }
        other @ (RefOr::Ref(_) | RefOr::T(_)) => other,
    }
}

/// Declares the body of a response: a struct, its JSON, its schema, and its conversion from a type of the engine. A new field of
/// that type does not compile until the body has it.
macro_rules! body {
    (
        $(#[doc = $about:literal])*
        $kind:ident $name:ident($component:literal) $(from $source:ident)? {
            $($(#[doc = $field_about:literal])* $field:ident: $type:ty,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(serde::Serialize, Debug)]
        pub(in crate::http) struct $name {
            $($(#[doc = $field_about])* pub(in crate::http) $field: $type,)*
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                use $crate::http::openapi::schema::{Described, about, description, of};
                let object = of(utoipa::openapi::Type::Object)
                    .description(description(&[$($about),*]))
                    $(
                        .property(
                            stringify!($field),
                            about(<$type as Described>::described(), &[$($field_about),*]),
                        )
                        .required(stringify!($field))
                    )*;
                utoipa::openapi::RefOr::T(object.build().into())
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                $component.into()
            }

            fn schemas(found: &mut $crate::http::openapi::schema::Components) {
                $(<$type as $crate::http::openapi::schema::Described>::components(found);)*
            }
        }

        body!(@$kind $name);

        body!(@conversion $name [$($source)?] $($field)*);
    };
    (@conversion $name:ident [] $($field:ident)*) => {};
    (@conversion $name:ident [$source:ident] $($field:ident)*) => {
        impl $crate::http::openapi::schema::BodyOf<$source> for $name {
            fn body_of(value: $source) -> Self {
                let $source { $($field),* } = value;
                Self { $($field: $crate::http::openapi::schema::BodyOf::body_of($field),)* }
            }
        }
    };
    (@component $name:ident) => {
        impl $crate::http::openapi::schema::Described for $name {
            fn described() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $crate::http::openapi::schema::reference(&<Self as utoipa::ToSchema>::name())
            }

            fn components(found: &mut $crate::http::openapi::schema::Components) {
                let name = <Self as utoipa::ToSchema>::name().into_owned();
                found.push((name, <Self as utoipa::PartialSchema>::schema()));
                <Self as utoipa::ToSchema>::schemas(found);
            }
        }
    };
    (@inline $name:ident) => {
        impl $crate::http::openapi::schema::Described for $name {
            fn described() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                <Self as utoipa::PartialSchema>::schema()
            }

            fn components(found: &mut $crate::http::openapi::schema::Components) {
                <Self as utoipa::ToSchema>::schemas(found);
            }
        }
    };
}

pub(in crate::http) use body;
