//! The query of `/files`.

use std::borrow::Cow;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub path: Option<String>,
    pub username: Option<String>,
    pub signature: Option<String>,
    pub signature_expiration: Option<String>,
}

impl Query {
    /// The first of each name counts.
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let field = match Cow::as_ref(&name) {
                "path" => &mut query.path,
                "username" => &mut query.username,
                "signature" => &mut query.signature,
                "signature_expiration" => &mut query.signature_expiration,
                _ => continue,
            };
            field.get_or_insert_with(|| value.into_owned());
        }
        query.path = query.path.filter(|path| !path.is_empty());
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_values_and_takes_the_first() {
        let query = Query::parse("path=%2Fa+b%2Bc&username=bob&path=/other&x=1");
        assert_eq!(query.path.as_deref(), Some("/a b+c"));
        assert_eq!(query.username.as_deref(), Some("bob"));
        assert_eq!(Query::parse("path="), Query::default());
    }
}
