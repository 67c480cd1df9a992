//! Owns the links of the API's description: the operations that use values of a response as their
//! parameters. Never describes an operation.

use serde_json::{Map, Value, json};

/// Operations that take their parameters from a response of another one.
struct Links {
    from: &'static str,
    status: &'static str,
    to: &'static [&'static str],
    /// The names of the parameters, and the runtime expressions of their values.
    parameters: &'static [(&'static str, &'static str)],
}

const APP_OF_BODY: (&str, &str) = ("app", "$response.body#/name");
const APP_OF_PATH: (&str, &str) = ("app", "$request.path.app");

const LINKS: [Links; 6] = [
    Links {
        from: "create_app",
        status: "201",
        to: &[
            "show_app",
            "change_app",
            "start_app",
            "stop_app",
            "show_app_status",
            "create_push",
            "list_pushes",
            "list_releases",
            "show_config",
            "show_cores",
            "show_activity",
            "destroy_app",
        ],
        parameters: &[APP_OF_BODY],
    },
    Links {
        from: "create_push",
        status: "202",
        to: &["show_push", "cancel_push"],
        parameters: &[APP_OF_PATH, ("id", "$response.body#/id")],
    },
    Links {
        from: "roll_back",
        status: "200",
        to: &["show_release", "compare_releases"],
        parameters: &[APP_OF_PATH, ("release", "$response.body#/name")],
    },
    Links {
        from: "create_process",
        status: "201",
        to: &["delete_process"],
        parameters: &[APP_OF_PATH, ("process", "$request.body#/name")],
    },
    Links {
        from: "create_token",
        status: "201",
        to: &["delete_token"],
        parameters: &[("name", "$response.body#/name")],
    },
    Links { from: "restart_instance", status: "202", to: &["list_instances"], parameters: &[APP_OF_PATH] },
];

/// Adds the links from an operation's responses.
pub(super) fn add(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    for links in LINKS.iter().filter(|links| links.from == id) {
        let Some(response) = operation["responses"].get_mut(links.status) else { continue };
        let parameters: Map<String, Value> =
            links.parameters.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        for to in links.to {
            response["links"][to] = json!({ "operationId": to, "parameters": parameters });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(document: &Value) -> Vec<&Value> {
        let items = document["paths"].as_object().expect("paths").values();
        items.flat_map(|item| item.as_object().expect("operations").values()).collect()
    }

    #[test]
    fn every_link_is_described_and_leads_to_an_operation_with_its_parameters() {
        let document = super::super::document();
        let operations = operations(&document);
        let find = |id: &str| {
            let found = operations.iter().find(|operation| operation["operationId"] == id);
            *found.unwrap_or_else(|| panic!("no operation {id}"))
        };
        for links in LINKS {
            let described = &find(links.from)["responses"][links.status]["links"];
            for to in links.to {
                assert_eq!(described[to]["operationId"], *to, "{} {}", links.from, links.status);
                let parameters = find(to)["parameters"].as_array().expect("parameters");
                let in_path: Vec<&Value> = parameters.iter().filter(|parameter| parameter["in"] == "path").collect();
                let given = |parameter: &&Value| links.parameters.iter().any(|(name, _)| parameter["name"] == **name);
                assert!(in_path.iter().all(given), "{to} has other parameters");
                assert!(in_path.len() == links.parameters.len(), "{to} lacks parameters");
            }
        }
    }
}
