//! The content of a section: owns how the document describes what can be put into one.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, Schema,
    SchemaFormat, SchemaType,
};
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::http::openapi::schema::{Components, of, reference};

const SECTION: &str = "Section";
const VALUE: &str = "Value";
/// Names that can be stored: no `$` in front, no NUL.
const NAMES: &str = r"^([^$\u0000][^\u0000]*)?$";

/// The JSON object that a section is. Read as BSON, so that the type describes it and holds nothing.
#[derive(Debug)]
pub(in crate::http) struct SectionContent;

impl PartialSchema for SectionContent {
    fn schema() -> RefOr<Schema> {
        let names = ObjectBuilder::new().schema_type(SchemaType::AnyValue);
        let names = names.pattern(Some(NAMES)).build();
        let section = of(Type::Object)
            .description(Some(
                "Any JSON object. A valid Extended JSON v2 wrapper becomes that BSON type; otherwise no key starts \
                 with $. Whole numbers without a fraction or an exponent are int64.",
            ))
            .property_names(Some(names))
            .additional_properties(Some(AdditionalProperties::RefOr(reference(VALUE))));
        RefOr::T(section.build().into())
    }
}

impl ToSchema for SectionContent {
    fn name() -> Cow<'static, str> {
        SECTION.into()
    }

    fn schemas(found: &mut Components) {
        found.push((VALUE.into(), RefOr::T(value())));
    }
}

/// The schema of a value inside a section.
fn value() -> Schema {
    let format = |format| Some(SchemaFormat::KnownFormat(format));
    let integer = of(Type::Integer)
        .format(format(KnownFormat::Int64))
        .minimum(Some(i64::MIN))
        .maximum(Some(i64::MAX));
    let items = ArrayBuilder::new().items(reference(VALUE));
    let value = AnyOfBuilder::new()
        .description(Some("The content of a section."))
        .item(of(Type::Null))
        .item(of(Type::Boolean))
        .item(integer)
        .item(of(Type::Number).format(format(KnownFormat::Double)))
        .item(of(Type::String))
        .item(items)
        .item(reference(SECTION));
    Schema::AnyOf(value.build())
}
