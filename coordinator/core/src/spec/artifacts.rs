//! Inputs and outputs of a task: names that are there, paths that stay below the output directory, producers that are needed.

use std::collections::BTreeMap;

use super::error::{SpecCode, SpecError};
use super::file::TaskFile;
use super::names;
use super::resolve::Resolver;
use crate::model::ids::TaskNo;
use crate::model::job_spec::{InputSpec, Need, NeedWhen, OutputSpec};

impl Resolver<'_> {
    /// Resolves inputs; a producer that is not needed yet is needed now.
    pub(super) fn inputs(
        &mut self,
        number: u32,
        name: &str,
        task: &TaskFile,
        needs: &mut Vec<Need>,
    ) -> Vec<InputSpec> {
        let mut inputs = Vec::new();
        let mut variables = BTreeMap::new();
        for (input, source) in &task.inputs {
            let path = || format!("tasks.{name}.inputs.{input}");
            if let Some(message) = names::artifact_fault("input", input) {
                self.faults.push(SpecError::at(SpecCode::InvalidName, path(), message));
            }
            if let Some(other) = variables.insert(names::variable(input), input) {
                let message = format!(
                    "inputs \"{other}\" and \"{input}\" would both be $MUSTER_INPUT_{}",
                    names::variable(input)
                );
                self.faults.push(SpecError::at(SpecCode::Duplicate, path(), message));
            }
            let Some((producer, output)) = source.split_once('.') else {
                let error = SpecError::at(
                    SpecCode::InvalidValue,
                    path(),
                    format!("\"{source}\" is no output of a task"),
                );
                self.faults.push(error.hint("write TASK.OUTPUT, as in prepare.data"));
                continue;
            };
            let Some(&found) = self.numbers.get(producer) else {
                let error = SpecError::at(
                    SpecCode::UnknownTask,
                    path(),
                    format!("input \"{input}\" comes from task \"{producer}\", which is not there"),
                );
                self.faults.push(error.nearest(producer, self.numbers.keys().copied()));
                continue;
            };
            let outputs = &self.file.tasks.0[found as usize].1.outputs;
            if !outputs.contains_key(output) {
                let mut error = SpecError::at(
                    SpecCode::UnknownOutput,
                    path(),
                    format!("task \"{producer}\" has no output \"{output}\""),
                );
                let known: Vec<&str> = outputs.keys().map(String::as_str).collect();
                error.hint = Some(match known.as_slice() {
                    [] => format!("declare it: outputs: {{{output}: {{path: …}}}} in task \"{producer}\""),
                    known => format!("its outputs are: {}", known.join(", ")),
                });
                self.faults.push(error.nearest(output, known));
                continue;
            }
            if found == number {
                self.faults.push(SpecError::at(
                    SpecCode::Cycle,
                    path(),
                    format!("task \"{name}\" reads its own output"),
                ));
                continue;
            }
            if !needs.iter().any(|n| n.task.0 == found) {
                needs.push(Need { task: TaskNo(found), when: NeedWhen::Unsaid });
            }
            inputs.push(InputSpec {
                name: input.as_str().into(),
                task: TaskNo(found),
                output: output.into(),
            });
        }
        inputs
    }

    /// The outputs, checked.
    pub(super) fn outputs(&mut self, name: &str, task: &TaskFile) -> Vec<OutputSpec> {
        let mut outputs = Vec::new();
        for (output, file) in &task.outputs {
            let path = || format!("tasks.{name}.outputs.{output}");
            if let Some(message) = names::artifact_fault("output", output) {
                self.faults.push(SpecError::at(SpecCode::InvalidName, path(), message));
            }
            if let Some(message) = names::path_fault(&file.path) {
                let error = SpecError::at(SpecCode::InvalidValue, format!("{}.path", path()), message);
                self.faults.push(error.hint("write a path below $MUSTER_OUTPUT_DIR, as in data.npz"));
            }
            outputs.push(OutputSpec { name: output.as_str().into(), path: file.path.as_str().into() });
        }
        outputs
    }
}
