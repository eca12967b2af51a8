//! Requests on the command line, and requests of answers as a `PolicyTest` writes them: `{"http": {"path": "/"}}`.

use bulkhead_policies::questions::{HttpQuestion, RequestQuestion};
use serde_json::{Map, Value, json};

/// What an HTTP request has beside method and path.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct HttpArguments {
    /// Host of an HTTP request
    #[arg(long)]
    host: Option<String>,
    /// Header of an HTTP request, `NAME: VALUE`; may be repeated
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
}

impl HttpArguments {
    /// The request that words say; none if there are none.
    pub(super) fn request(&self, words: &[String]) -> Result<Option<RequestQuestion>, String> {
        let only_http = self.host.is_some() || !self.headers.is_empty();
        if words.is_empty() {
            return match only_http {
                false => Ok(None),
                true => Err("`--host` and `--header` need a request: add for example `GET /`".to_owned()),
            };
        }
        let mut request = RequestQuestion::parse(words)?;
        if let RequestQuestion::Http(http) = &mut request {
            http.host.clone_from(&self.host);
            for header in &self.headers {
                let (name, value) = header
                    .split_once(':')
                    .ok_or_else(|| format!("`{header}` is no header: write `NAME: VALUE`"))?;
                http.headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        } else if only_http {
            return Err(format!("a request of `{}` has neither host nor headers", request.protocol()));
        }
        Ok(Some(request))
    }
}

/// The request as JSON.
pub(super) fn to_json(request: &RequestQuestion) -> Value {
    let body = match request {
        RequestQuestion::Http(http) => http_json(http),
        _ => words_json(request),
    };
    json!({request.protocol(): body})
}

fn http_json(http: &HttpQuestion) -> Value {
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in &http.headers {
        let values = headers.entry(name.clone()).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(value.clone().into());
        }
    }
    let mut body = json!({"method": http.method, "path": http.target});
    if let Some(fields) = body.as_object_mut() {
        fields.extend(http.host.iter().map(|host| ("host".to_owned(), host.clone().into())));
        if !headers.is_empty() {
            fields.insert("headers".to_owned(), headers.into());
        }
    }
    body
}

fn words_json(request: &RequestQuestion) -> Value {
    let several =
        |name: &str| request.word_fields().iter().any(|field| field.in_documents == name && field.several);
    let fields = request.parts().into_iter().map(|(name, texts)| {
        let value = match (several(name), texts.into_iter().next_back()) {
            (true, _) => {
                request.parts().into_iter().find(|(own, _)| *own == name).map(|(_, texts)| json!(texts))
            }
            (false, Some(text)) if name == "ech" => Some(json!(text == "true")),
            (false, Some(text)) if request.protocol() == "redis" && name == "database" => {
                Some(text.parse::<u32>().map_or(json!(text), |number| json!(number)))
            }
            (false, text) => text.map(Value::from),
        };
        (name.to_owned(), value.unwrap_or_default())
    });
    Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_policies::cases;
    use bulkhead_policies::diagnostics::Source;

    #[test]
    fn a_request_of_an_answer_can_be_put_into_a_case() {
        for words in [
            "GET /a?b",
            "grpc a.B/C",
            "tls sni=a.test version=1.2-1.3 alpn=h2 alpn=x ech=true",
            "tls version=1.3",
            "dns name=a.test type=AAAA",
            "redis command=get key=a key=b database=3",
            "redis command=ping database=unknown",
            "postgres user=a database=b statement=select statement=other",
            "postgres user=a",
            "kafka api=fetch topic=a topic=b",
        ] {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let request = RequestQuestion::parse(&words).expect("a request");
            let mut case = json!({"from": "a/b", "to": "a/c", "port": 1});
            let fields = to_json(&request);
            case.as_object_mut().expect("a case").extend(fields.as_object().expect("fields").clone());
            let document = json!({
                "apiVersion": "bulkhead.dev/v1alpha1", "kind": "PolicyTest",
                "metadata": {"name": "a"}, "spec": {"allow": [case]},
            });
            let source = Source { name: "a.json".to_owned(), text: document.to_string() };
            let (suites, found) = cases::load(&[source]);
            assert_eq!(found, []);
            assert_eq!(suites[0].cases[0].request, Some(request), "{fields}");
        }
    }
}
