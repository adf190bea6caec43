//! Errors of routes: owns how the closed error of a route is declared.

/// Declares the error of a route: every cause that its handler can end in, its conversion into the one problem type, and the
/// responses that the OpenAPI document describes it by.
///
/// `after` names the errors of the extractors, which refuse before the handler begins. `also` names codes of the layers
/// around the route, and those that the document has always listed for all routes of its group.
macro_rules! route_error {
    (
        $(#[doc = $about:literal])*
        $name:ident after [$($rejection:ident),*] also [$($code:ident),*] {
            $($(#[doc = $why:literal])* $variant:ident($cause:ident),)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug)]
        pub(in crate::http) enum $name {
            $($(#[doc = $why])* $variant($cause),)*
        }

        $(
            impl From<$cause> for $name {
                fn from(cause: $cause) -> Self {
                    Self::$variant(cause)
                }
            }
        )*

        impl From<$name> for $crate::http::response::problem::Problem {
            fn from(error: $name) -> Self {
                match error {
                    $($name::$variant(cause) => cause.into(),)*
                }
            }
        }

        impl axum::response::IntoResponse for $name {
            fn into_response(self) -> axum::response::Response {
                $crate::http::response::problem::Problem::from(self).into_response()
            }
        }

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::Response>,
            > {
                use $crate::http::response::problem::Code;
                use $crate::http::response::problem::causes::Cause;
                let codes: &[&[Code]] = &[
                    $(<$rejection as Cause>::CODES,)*
                    $(<$cause as Cause>::CODES,)*
                    &[$(Code::$code),*],
                ];
                $crate::http::openapi::refusals::by_status(codes.iter().copied().flatten())
            }
        }
    };
}

pub(super) use route_error;
