//! The published JSON Schema of the report, in a validator that has nothing of ours.
#![allow(dead_code, reason = "each test binary uses its part")]

use serde_json::Value;

pub(crate) struct Validator {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Validator {
    pub(crate) fn of_report() -> Self {
        let schema: Value = serde_json::from_str(&detgate::report::schema::json_schema()).unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let name = schema["$id"].as_str().unwrap().to_owned();
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource(&name, schema).unwrap();
        let index = compiler.compile(&name, &mut schemas).unwrap();
        Self { schemas, index }
    }

    pub(crate) fn takes(&self, report: &Value) -> bool {
        self.schemas.validate(report, self.index).is_ok()
    }

    /// # Panics
    /// With what is wrong with it.
    pub(crate) fn check(&self, report: &Value) {
        if let Err(error) = self.schemas.validate(report, self.index) {
            panic!("{error:#}");
        }
    }
}
