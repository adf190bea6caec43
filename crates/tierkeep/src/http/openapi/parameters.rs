//! Parameters that several routes share: owns what their values look like.

use tierkeep_core::user::Section;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ObjectBuilder, RefOr, Required, Schema, Type};

use super::Effect;
use super::schema::USER_ID;

/// A list of ETags.
const TAGS: &str = r#"^(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*$"#;
const USER_NAME: &str = "^[A-Za-z0-9_-]{1,39}$";
/// The tag of routes that identify the caller.
const OF_USERS: &str = "user";

/// Describes the values of the parameters of an operation, and the parameter that names a public user.
pub(in crate::http) fn describe(operation: &mut Operation, effect: Effect, sections: &[Section]) {
    let parameters = operation.parameters.get_or_insert_default();
    for parameter in &mut *parameters {
        let RefOr::T(parameter) = parameter else {
            continue;
        };
        if let Some(schema) = schema(parameter, effect, sections) {
            parameter.schema = Some(RefOr::T(schema));
        }
    }
    let tags = operation.tags.iter().flatten();
    if tags.into_iter().any(|tag| tag == OF_USERS) {
        parameters.push(RefOr::T(username()));
    }
}

fn schema(parameter: &Parameter, effect: Effect, sections: &[Section]) -> Option<Schema> {
    match parameter.name.as_str() {
        "If-None-Match" if effect == Effect::Changes => Some(one_of(["*"])),
        "If-Match" | "If-None-Match" => Some(any_or_tags()),
        "user" | "user_id" => Some(text(USER_ID)),
        "section" => Some(one_of(sections.iter().map(Section::as_str))),
        _ => None,
    }
}

fn text(pattern: &str) -> Schema {
    let text = ObjectBuilder::new().schema_type(Type::String);
    Schema::Object(text.pattern(Some(pattern)).build())
}

fn one_of<'a>(values: impl IntoIterator<Item = &'a str>) -> Schema {
    let text = ObjectBuilder::new().schema_type(Type::String);
    Schema::Object(text.enum_values(Some(values)).build())
}

fn any_or_tags() -> Schema {
    let either = AnyOfBuilder::new().item(one_of(["*"])).item(text(TAGS));
    Schema::AnyOf(either.build())
}

fn username() -> Parameter {
    ParameterBuilder::new()
        .name("username")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(
            "the name of a public user; makes the caller external, with or without credentials",
        ))
        .schema(Some(RefOr::T(text(USER_NAME))))
        .build()
}
