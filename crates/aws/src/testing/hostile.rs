//! Inputs that nobody meant: every way in which one value of a valid one can be another.

#![allow(clippy::unwrap_used, clippy::panic, reason = "only tests use it, and a test ends by a panic")]

use lambda_runtime::Diagnostic;
use serde_json::{Value, json};
use shipway_domain::failure::Failure;

/// An input with one thing changed.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Where, as a JSON pointer.
    pub at: String,
    /// What was changed there.
    pub what: &'static str,
    /// The whole input.
    pub input: Value,
}

/// More than any field may have, and than a table's item takes with another beside it.
const HUGE: usize = 300 * 1024;

/// No message is longer: a record's reason has 2,000 characters of it, and a person reads it.
const LONGEST: usize = 2000;

/// Each value of `valid`, itself included, gone, of every other type, and a text of every bad kind; each object with a field more.
pub fn mutants(valid: &Value) -> Vec<Mutant> {
    let mut places = Vec::new();
    all_within(valid, String::new(), &mut places);
    let mut mutants = Vec::new();
    for at in places {
        let value = valid.pointer(&at).unwrap();
        let mut add = |what, input| mutants.push(Mutant { at: at.clone(), what, input });
        for (what, other) in others(value) {
            if other != *value {
                add(what, with(valid, &at, other));
            }
        }
        if let Some((parent, key)) = at.rsplit_once('/') {
            let mut input = valid.clone();
            match input.pointer_mut(parent).unwrap() {
                Value::Object(fields) => drop(fields.remove(key)),
                Value::Array(items) => drop(items.remove(key.parse().unwrap())),
                _ => unreachable!(),
            }
            add("gone", input);
        }
    }
    mutants
}

fn all_within(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| all_within(value, format!("{at}/{key}"), places))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| all_within(value, format!("{at}/{index}"), places));
        }
        _ => {}
    }
    places.push(at);
}

fn with(valid: &Value, at: &str, other: Value) -> Value {
    let mut input = valid.clone();
    *input.pointer_mut(at).unwrap() = other;
    input
}

fn others(value: &Value) -> Vec<(&'static str, Value)> {
    let mut others = vec![
        ("null", Value::Null),
        ("a boolean", json!(true)),
        ("a negative number", json!(-1)),
        ("the largest number", json!(u64::MAX)),
        ("a huge number", json!(1e300)),
        ("a fraction", json!(0.5)),
        ("an empty text", json!("")),
        ("a huge text", json!("x".repeat(HUGE))),
        ("control characters", json!("a\u{0}b\u{1b}[31m\u{7f}")),
        ("lines", json!("a\nERROR b\r\n")),
        ("a way out", json!("../../../etc/passwd")),
        ("unicode", json!("\u{202e}\u{fc}\u{1d54f}\u{feff}")),
        ("a command", json!("$(reboot) `reboot` ${IFS} %s")),
        ("an expression", json!("{% $states.input %}")),
        ("an empty list", json!([])),
        ("an empty object", json!({})),
        ("a list of it", json!([value])),
        ("an object of it", json!({"Value": value})),
    ];
    match value {
        Value::Object(fields) => {
            let mut more = fields.clone();
            more.insert("another_field".to_owned(), json!("\u{0}x".repeat(HUGE / 2)));
            others.push(("a field more", Value::Object(more)));
        }
        Value::Array(items) => others.push(("all of it twice", json!([items.as_slice(), items.as_slice()].concat()))),
        _ => {}
    }
    others
}

/// Asks a function every mutant of `valid`. Each must be answered as `valid` is, with the same effects, or refused: by a public
/// name that no machine tries again, in a short message that says where, and with nothing written. What is at the pointers `free`
/// may be anything: another value there is another input, and as good.
///
/// `ask` makes a world, asks it by [`crate::runtime::answer`], and tells what was answered and what is written then.
pub async fn are_refused(
    valid: &Value,
    free: &[&str],
    ask: impl AsyncFn(Value) -> (Result<Value, Diagnostic>, String),
) {
    let (answer, effects) = ask(valid.clone()).await;
    let answer = answer.unwrap_or_else(|error| panic!("the valid input {valid} is refused: {error:?}"));
    let (_, untouched) = ask(Value::Null).await;
    let mutants = mutants(valid);
    for Mutant { at, what, input } in &mutants {
        let told = format!("{what} at `{at}` of {valid}");
        let is_free = free.contains(&at.as_str());
        let (answered, written) = ask(input.clone()).await;
        let refused = match answered {
            Ok(_) if is_free => continue,
            Ok(answered) => {
                assert!((&answered, &written) == (&answer, &effects), "{told} is taken and answered {answered}");
                continue;
            }
            Err(refused) => refused,
        };
        let Diagnostic { error_type, error_message } = &refused;
        let failure =
            Failure::from_name(error_type).unwrap_or_else(|| panic!("{told}: {error_type} is no public name"));
        assert!(!failure.retryable(), "{told} is tried again: {error_message}");
        assert!(written == untouched, "{told} is refused, and something was written: {error_message}");
        assert!(error_message.len() <= LONGEST, "{told} is told in {} bytes", error_message.len());
        assert!(!error_message.contains(char::is_control), "{told} breaks the log: {error_message:?}");
        // What was read and does not hold has its own words.
        let was_read = failure != Failure::RejectedInput;
        assert!(was_read || says_where(error_message, at), "{told} is not told where: {error_message}");
    }
    // Shown with `--nocapture`.
    eprintln!("{} mutants of {valid}", mutants.len());
}

/// Whether a message names the field, or what it is in, if it is not the whole. An action is what requests vary by.
fn says_where(message: &str, at: &str) -> bool {
    let mut keys = at.split('/').filter(|key| key.parse::<usize>().is_err() && !key.is_empty()).rev();
    let (Some(last), before) = (keys.next(), keys.next()) else { return true };
    let named = |key| message.contains(&format!("`{key}")) || message.contains(&format!(".{key}"));
    let in_words = match last {
        "action" => "unknown variant",
        "input" => "the input is ",
        _ => return named(last) || before.is_some_and(named),
    };
    named(last) || message.contains(in_words)
}
