//! The page that shows the OpenAPI document.

use crate::common::{Backend, World};

/// What the page names in `src` and `href`.
fn named(page: &str) -> Vec<String> {
    ["src=\"", "href=\""]
        .iter()
        .flat_map(|attribute| page.split(attribute).skip(1))
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_page_is_whole_and_names_nothing_from_elsewhere() {
    let world = World::new(Backend::Memory).await;
    for path in ["/docs", "/docs/"] {
        let page = world.ask("GET", path).send().await.expect(200);
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(
            !policy.contains("http") && !policy.contains('*'),
            "{policy}"
        );
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        let named = named(&page);
        assert!(named.len() >= 6, "{named:?}");
        for file in named {
            assert!(file.starts_with("/docs/"), "{file}");
            let file = world.ask("GET", &file).send().await.expect(200);
            assert!(file.header("content-security-policy").is_some());
            assert!(!file.body.is_empty());
        }
    }
    let settings = world
        .ask("GET", "/docs/swagger-initializer.js")
        .send()
        .await;
    let settings = String::from_utf8(settings.body.to_vec()).unwrap();
    assert!(
        settings.contains("\"url\": \"/openapi.json\""),
        "{settings}"
    );
    assert!(
        settings.contains("\"validatorUrl\": \"none\""),
        "{settings}"
    );
    assert!(!settings.contains("http"), "{settings}");
}

#[tokio::test]
async fn nothing_else_is_below_the_page() {
    let world = World::new(Backend::Memory).await;
    for path in [
        "/docs/x",
        "/docs/oauth2-redirect.html",
        "/docs/index.html",
        "/docs/%2e%2e",
    ] {
        world
            .ask("GET", path)
            .send()
            .await
            .refused(404, "not_found");
    }
}
