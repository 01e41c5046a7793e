//! The table, as far as one publication needs it: items by key, and the updates of a run. There is one writer and no rival,
//! so every condition holds.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// The items, in DynamoDB's own JSON.
#[derive(Clone, Default)]
pub(crate) struct Table(BTreeMap<(String, String), Map<String, Value>>);

impl Table {
    /// Puts an item as the functions write it.
    pub(crate) fn put(&mut self, pk: &str, sk: &str, content: &Value) -> Result<()> {
        let mut item: Map<String, Value> = content
            .as_object()
            .context("an item is a map")?
            .iter()
            .map(|(name, value)| (name.clone(), attribute(value)))
            .collect();
        item.insert("pk".to_owned(), json!({"S": pk}));
        item.insert("sk".to_owned(), json!({"S": sk}));
        self.0.insert((pk.to_owned(), sk.to_owned()), item);
        Ok(())
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, operation: &str, body: &Value) -> Result<Value> {
        match operation {
            "GetItem" => Ok(self.0.get(&key(&body["Key"])?).map_or_else(|| json!({}), |item| json!({"Item": item}))),
            "TransactWriteItems" => {
                for write in body["TransactItems"].as_array().into_iter().flatten() {
                    match write.as_object().and_then(|write| write.iter().next()) {
                        Some((kind, put)) if kind == "Put" => {
                            let item = put["Item"].as_object().context("a put has an item")?.clone();
                            self.0.insert(key(&put["Item"])?, item);
                        }
                        Some((kind, update)) if kind == "Update" => self.update(update)?,
                        _ => bail!("this table cannot do {write}"),
                    }
                }
                Ok(json!({}))
            }
            "UpdateItem" => self.update(body).map(|()| json!({})),
            other => bail!("this table cannot do {other}"),
        }
    }

    fn update(&mut self, update: &Value) -> Result<()> {
        let item = self.0.entry(key(&update["Key"])?).or_insert_with(|| {
            let key = update["Key"].as_object().cloned();
            key.unwrap_or_default()
        });
        let expression = update["UpdateExpression"].as_str().context("an update has an expression")?;
        Expression { tokens: tokens(expression), at: 0, update, item }.apply()
    }
}

fn key(key: &Value) -> Result<(String, String)> {
    let text = |name: &str| Some(key[name]["S"].as_str()?.to_owned());
    text("pk").zip(text("sk")).context("no key")
}

/// A JSON value as DynamoDB's.
fn attribute(value: &Value) -> Value {
    match value {
        Value::Null => json!({"NULL": true}),
        Value::Bool(value) => json!({"BOOL": value}),
        Value::Number(value) => json!({"N": value.to_string()}),
        Value::String(value) => json!({"S": value}),
        Value::Array(values) => json!({"L": values.iter().map(attribute).collect::<Vec<_>>()}),
        Value::Object(values) => {
            json!({"M": values.iter().map(|(name, value)| (name.clone(), attribute(value))).collect::<Map<_, _>>()})
        }
    }
}

fn tokens(expression: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_#:.".contains(c);
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// An update expression under way.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.UpdateExpressions.html>
struct Expression<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    update: &'a Value,
    item: &'a mut Map<String, Value>,
}

impl<'a> Expression<'a> {
    fn apply(mut self) -> Result<()> {
        let mut clause = "";
        while let Some(token) = self.next() {
            match (clause, token) {
                (_, "SET" | "ADD" | "REMOVE") => clause = token,
                (_, ",") => {}
                ("SET", path) => {
                    self.expect("=")?;
                    let value = self.operand()?;
                    *self.place(path)? = value;
                }
                ("ADD", path) => {
                    let more = number(&self.operand()?);
                    let place = self.place(path)?;
                    *place = json!({"N": (number(place) + more).to_string()});
                }
                ("REMOVE", path) => *self.place(path)? = Value::Null,
                _ => bail!("`{token}` begins no clause"),
            }
        }
        // What was removed, and what a look at a missing path left.
        self.item.retain(|_, value| !value.is_null());
        Ok(())
    }

    fn next(&mut self) -> Option<&'a str> {
        self.at += 1;
        self.tokens.get(self.at - 1).copied()
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        let found = self.next();
        anyhow::ensure!(found == Some(token), "`{token}` and not {found:?} is next");
        Ok(())
    }

    fn operand(&mut self) -> Result<Value> {
        let token = self.next().context("a value is missing")?;
        match token {
            "list_append" | "if_not_exists" => {
                self.expect("(")?;
                let first = self.operand()?;
                self.expect(",")?;
                let second = self.operand()?;
                self.expect(")")?;
                if token == "if_not_exists" {
                    return Ok(if first.is_null() { second } else { first });
                }
                let both = [first, second].into_iter().filter_map(|list| list["L"].as_array().cloned());
                Ok(json!({"L": both.flatten().collect::<Vec<_>>()}))
            }
            value if value.starts_with(':') => Ok(self.update["ExpressionAttributeValues"][value].clone()),
            path => Ok(self.place(path)?.clone()),
        }
    }

    fn place(&mut self, path: &str) -> Result<&mut Value> {
        let names = &self.update["ExpressionAttributeNames"];
        let mut parts = path.split('.').map(|part| names[part].as_str().unwrap_or(part).to_owned());
        let mut place = self.item.entry(parts.next().unwrap_or_default()).or_insert(Value::Null);
        for part in parts {
            place = &mut place["M"][part];
        }
        Ok(place)
    }
}

fn number(value: &Value) -> i64 {
    value["N"].as_str().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Table;

    #[test]
    fn a_run_renews_its_claim_and_appends_what_it_began() {
        let mut table = Table::default();
        table
            .put("a/b", "component#site/web", &json!({"claim": {"until": "then", "fence": 3}, "revision": 1}))
            .unwrap();
        let key = json!({"pk": {"S": "a/b"}, "sk": {"S": "component#site/web"}});
        let update = json!({"TransactItems": [{"Update": {
            "Key": key,
            "UpdateExpression": "SET claim.#until = :until, unfinished = list_append(if_not_exists(unfinished, :none), :me) ADD revision :one",
            "ExpressionAttributeNames": {"#until": "until"},
            "ExpressionAttributeValues": {
                ":until": {"S": "now"}, ":none": {"L": []}, ":me": {"L": [{"S": "r1"}]}, ":one": {"N": "1"},
            },
        }}]});
        table.answer("TransactWriteItems", &update).unwrap();
        table.answer("TransactWriteItems", &update).unwrap();
        let item = table.answer("GetItem", &json!({"Key": key})).unwrap();
        assert_eq!(item["Item"]["claim"], json!({"M": {"until": {"S": "now"}, "fence": {"N": "3"}}}));
        assert_eq!(item["Item"]["unfinished"], json!({"L": [{"S": "r1"}, {"S": "r1"}]}));
        assert_eq!(item["Item"]["revision"], json!({"N": "3"}));
    }
}
