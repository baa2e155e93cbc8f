//! Whatever comes in, nothing panics, and what means the same stays the same: properties over random and over damaged job files.

use proptest::prelude::*;

use super::tests::DIGITS;
use super::{ArrayFile, Format, RunFile, RunOptions, SpecBytes, check, is_script, load, parse, script};
use crate::model::duration::Millis;
use crate::model::size::Size;

const FORMATS: [Format; 3] = [Format::Yaml, Format::Toml, Format::Json];

/// The example with one piece replaced by another text.
fn damaged() -> impl Strategy<Value = String> {
    let pieces = [
        "", "\n", ": ", "- ", "[", "{", "\"", "&a ", "*a", "<<: ", "{{", "}}", "|\n", "? ", "!!int ", "\t",
        "é", "\0", "# ", "tasks:\n",
    ];
    (0..DIGITS.len(), 0..40_usize, proptest::sample::select(pieces.to_vec())).prop_map(|(at, cut, piece)| {
        let end = (at + cut).min(DIGITS.len());
        format!("{}{piece}{}", &DIGITS[..at], &DIGITS[end..])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for format in FORMATS {
            let _ = parse(&bytes, format, "x");
        }
        let _ = is_script(&bytes);
        let _ = SpecBytes(bytes).decode();
    }

    #[test]
    fn no_text_panics(text in "[ -~\n\t]{0,200}") {
        for format in FORMATS {
            let _ = load(text.as_bytes(), format, "x", &["a=1"]);
        }
        let _ = script::parse_script(format!("#!/bin/sh\n#MUSTER {text}\n#SBATCH {text}\n").as_bytes(), "x", true, &RunOptions::default());
        let options = RunOptions { constraint: vec![text.clone()], array: Some(text.clone()), env: vec![format!("A={text}")], ..RunOptions::default() };
        if let Ok(job) = options.job(RunFile::Shell(format!("x {{{{ {text} }}}}"))) {
            let _ = check(&job, None);
        }
        let _ = (Size::parse(&text), Millis::parse(&text));
    }

    #[test]
    fn a_damaged_file_is_a_job_or_has_faults_with_lines(text in damaged()) {
        match load(text.as_bytes(), Format::Yaml, "x.yaml", &[] as &[&str]) {
            Ok((job, checked)) => {
                let again = parse(job.to_json().as_bytes(), Format::Json, "x.json").expect("its JSON is read");
                prop_assert_eq!(&again, &job);
                prop_assert_eq!(check(&again, None).expect("and means the same"), checked);
            }
            Err(errors) => prop_assert!(!errors.0.is_empty()),
        }
    }

    #[test]
    fn an_array_knows_its_indices_both_ways(first in 0..1_000_u32, count in 1..500_u32, step in 1..9_u32, far in 1..9_u32) {
        let last = first + (count - 1) * step;
        let other = last + far * 10;
        let text = format!("{first}-{last}:{step},{other}");
        let job = RunOptions { array: Some(text.clone()), ..RunOptions::default() }.job(RunFile::Shell("true".into())).expect("options");
        prop_assert_eq!(job.tasks.0[0].1.array.as_deref(), Some(&ArrayFile::Range(text)));
        let spec = check(&job, None).expect("job").spec;
        let array = spec.tasks[0].array().expect("array");
        prop_assert_eq!(array.count, count + 1);
        for position in 0..array.count {
            let index = array.index(position).expect("in range");
            prop_assert_eq!(array.position(index), Some(position));
        }
        prop_assert_eq!(array.index(array.count), None);
        prop_assert_eq!(SpecBytes::encode(&spec).decode(), Ok(spec));
    }

    #[test]
    fn sizes_and_durations_print_what_they_read(bytes in any::<u64>(), ms in 0..crate::model::duration::MAX_MS) {
        prop_assert_eq!(Size::parse(&Size(bytes).to_string()), Ok(Size(bytes)));
        prop_assert_eq!(Millis::parse(&Millis(ms).to_string()), Ok(Millis(ms)));
    }
}
