//! Parameters: `--param k=v`, and what is known about them at submission.

use serde_json::Value;

use super::error::{SpecCode, SpecError, SpecErrors};
use super::file::JobFile;
use super::limits;
use super::parse::yaml_options;

impl JobFile {
    /// Overrides parameters by texts `NAME=VALUE`. A value is typed as YAML would type it: `20` is a number, `[1, 2]` a list,
    /// `"20"` a text. Only parameters that the file declares can be given.
    ///
    /// # Errors
    /// A text without `=`, an unknown name (with the nearest one), a value that is no YAML.
    pub fn set_params(&mut self, texts: &[impl AsRef<str>]) -> Result<(), SpecErrors> {
        let mut errors = Vec::new();
        for text in texts.iter().map(AsRef::as_ref) {
            let Some((name, value)) = text.split_once('=') else {
                let error =
                    SpecError::new(SpecCode::InvalidValue, format!("parameter \"{text}\" has no value"));
                errors.push(error.hint(format!("write --param {text}=VALUE")));
                continue;
            };
            let (name, value) = (name.trim(), typed(value));
            match self.params.get_mut(name) {
                Some(old) => *old = value,
                None => {
                    let known: Vec<&str> = self.params.keys().map(String::as_str).collect();
                    let mut error = SpecError::new(
                        SpecCode::UnknownParam,
                        format!("the job has no parameter \"{name}\""),
                    );
                    error.hint = Some(if known.is_empty() {
                        format!("declare it in the file: params: {{{name}: …}}")
                    } else {
                        format!("its parameters are: {}", known.join(", "))
                    });
                    errors.push(error.nearest(name, known));
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(SpecErrors(errors)) }
    }
}

/// A text as YAML types it; what is no YAML, or a table by accident (`a: b`), stays a text.
fn typed(text: &str) -> Value {
    let flow = text.trim_start().starts_with(['[', '{']);
    match serde_saphyr::from_str_with_options::<Value>(text, yaml_options(text.len())) {
        Ok(Value::Object(_) | Value::Array(_)) if !flow => Value::String(text.to_owned()),
        Ok(Value::Null) if text.trim().is_empty() => Value::String(text.to_owned()),
        Ok(value) => value,
        Err(_) => Value::String(text.to_owned()),
    }
}

/// Faults of the parameters themselves.
pub(super) fn faults(job: &JobFile) -> Vec<SpecError> {
    let mut found = Vec::new();
    for (name, value) in &job.params {
        let path = format!("params.{name}");
        if !is_identifier(name) {
            let message = format!(
                "parameter \"{name}\" is no name that templates can use: letters, digits and _, not beginning with a digit"
            );
            found.push(SpecError::at(SpecCode::InvalidName, &path, message));
        }
        if value.is_null() {
            let error =
                SpecError::at(SpecCode::UnknownParam, &path, format!("parameter \"{name}\" has no value"));
            found.push(error.hint(format!("pass --param {name}=VALUE, or give it a value in the file")));
        }
    }
    let bytes: usize = job.params.iter().map(|(k, v)| k.len() + v.to_string().len()).sum();
    if bytes > limits::PARAMS_BYTES {
        let message = format!(
            "the parameters have {bytes} bytes; all together have at most {} (1 MiB)",
            limits::PARAMS_BYTES
        );
        found.push(SpecError::at(SpecCode::TooLarge, "params", message).hint("ship large data in `workdir`"));
    }
    found
}

/// Letters, digits and `_`, not beginning with a digit.
pub(super) fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_typed_as_yaml_types_them() {
        for (text, value) in [
            ("20", json!(20)),
            ("0.5", json!(0.5)),
            ("true", json!(true)),
            ("no", json!("no")),
            ("\"20\"", json!("20")),
            ("[1, 2, 3]", json!([1, 2, 3])),
            ("{a: 1}", json!({"a": 1})),
            ("a: b", json!("a: b")),
            ("- x", json!("- x")),
            ("007", json!("007")),
            ("", json!("")),
            ("null", json!(null)),
            ("[1", json!("[1")),
            ("http://x/y?a=b", json!("http://x/y?a=b")),
        ] {
            assert_eq!(typed(text), value, "{text}");
        }
    }

    #[test]
    fn only_declared_parameters_are_set() {
        let mut job = JobFile::default();
        job.params.insert("epochs".into(), json!(20));
        job.set_params(&["epochs=3"]).expect("known");
        assert_eq!(job.params["epochs"], json!(3));
        let errors = job.set_params(&["epoch=3", "epochs"]).expect_err("unknown");
        assert_eq!(errors.0[0].code, SpecCode::UnknownParam);
        assert_eq!(errors.0[0].hint.as_deref(), Some("did you mean \"epochs\"?"));
        assert_eq!(errors.0[1].message, "parameter \"epochs\" has no value");
    }
}
