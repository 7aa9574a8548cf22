package definition

// schemaSecond is the kinds from offer on.
const schemaSecond = `    "offer": {
      "description": "A thing that can be chosen.",
      "type": "object",
      "additionalProperties": false,
      "required": ["message_class", "treatments"],
      "properties": {
` + schemaMeta +
	`        "group": {"$ref": "#/$defs/group"},
        "message_class": {"$ref": "#/$defs/class"},
        "purpose": {
          "description": "What a consent must cover.",
          "$ref": "#/$defs/id",
          "default": "marketing"
        },
        "value": {"$ref": "#/$defs/amount", "default": 1},
        "cost": {
          "description": "What a use costs a budget in money. Plain: the workspace's currency.",
          "anyOf": [{"$ref": "#/$defs/decimal"}, {"$ref": "#/$defs/money"}]
        },
        "lever": {"$ref": "#/$defs/amount", "default": 1},
        "propensity": {
          "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"$ref": "#/$defs/read"}],
          "default": 1
        },
        "context": {
          "anyOf": [{"$ref": "#/$defs/amount"}, {"$ref": "#/$defs/read"}],
          "default": 1
        },
        "campaign": {"$ref": "#/$defs/id"},
        "attributes": {
          "type": "object",
          "maxProperties": 512,
          "propertyNames": {"$ref": "#/$defs/data_name"},
          "additionalProperties": {"type": ["string", "number", "boolean"]}
        },
        "start": {"description": "Inclusive.", "$ref": "#/$defs/time"},
        "end": {"description": "Exclusive.", "$ref": "#/$defs/time"},
        "eligibility": {"$ref": "#/$defs/tree"},
        "applicability": {"$ref": "#/$defs/tree"},
        "suitability": {"$ref": "#/$defs/tree"},
        "caps": {"$ref": "#/$defs/ids"},
        "holdout": {
          "description": "Of a transactional offer: holdouts cover it.",
          "type": "boolean",
          "default": false
        },
        "treatments": {
          "type": "array",
          "minItems": 1,
          "maxItems": 64,
          "items": {"$ref": "#/$defs/treatment"}
        }
      },
      "if": {"required": ["holdout"]},
      "then": {"properties": {"message_class": {"const": "transactional"}}}
    },
    "treatment": {
      "description": "An offer rendered for one channel.",
      "type": "object",
      "additionalProperties": false,
      "required": ["id", "channel", "content"],
      "properties": {
        "id": {"$ref": "#/$defs/id"},
        "channel": {"$ref": "#/$defs/channel"},
        "placements": {
          "description": "Absent: every placement of the channel.",
          "$ref": "#/$defs/ids",
          "minItems": 1
        },
        "locale": {"$ref": "#/$defs/locale"},
        "content": {
          "type": "object",
          "additionalProperties": false,
          "required": ["type", "body"],
          "properties": {"type": {"enum": ["json", "text", "html"]}, "body": true},
          "if": {"properties": {"type": {"const": "json"}}},
          "then": {"properties": {"body": {"type": "object"}}},
          "else": {"properties": {"body": {"$ref": "#/$defs/text"}}}
        }
      }
    },
    "placement": {
      "description": "A named place on a channel.",
      "type": "object",
      "additionalProperties": false,
      "required": ["channel", "policy"],
      "properties": {
` + schemaMeta +
	`        "channel": {"$ref": "#/$defs/channel"},
        "policy": {"$ref": "#/$defs/id"},
        "count": {"type": "integer", "minimum": 1, "maximum": 20, "default": 1},
        "sticky": {"enum": ["none", "hold"]},
        "context": {
          "type": "object",
          "maxProperties": 512,
          "propertyNames": {
            "$ref": "#/$defs/data_name",
            "not": {"enum": ["placement", "channel"]}
          },
          "additionalProperties": {"$ref": "#/$defs/type"}
        }
      },
      "if": {"properties": {"channel": {"enum": ["web", "in_app"]}}},
      "then": true,
      "else": {"properties": {"sticky": {"const": "none"}}}
    },
    "decision_policy": {
      "description": "How a placement is filled.",
      "type": "object",
      "additionalProperties": false,
      "properties": {
` + schemaMeta +
	`        "candidates": {"$ref": "#/$defs/offers"},
        "ranking": {
          "anyOf": [
            {
              "type": "object",
              "additionalProperties": false,
              "required": ["by"],
              "properties": {
                "by": {"const": "product"},
                "propensity": {"$ref": "#/$defs/exponent"},
                "context": {"$ref": "#/$defs/exponent"},
                "value": {"$ref": "#/$defs/exponent"},
                "lever": {"$ref": "#/$defs/exponent"}
              }
            },
            {
              "type": "object",
              "additionalProperties": false,
              "required": ["by", "offers"],
              "properties": {"by": {"const": "order"}, "offers": {"$ref": "#/$defs/ids"}}
            }
          ]
        },
        "exploration": {"type": "string", "pattern": "^0(\\.0{1,2})?%$", "default": "0%"},
        "fallback": {
          "type": "object",
          "additionalProperties": false,
          "required": ["offer"],
          "properties": {
            "offer": {"$ref": "#/$defs/id"},
            "universal": {
              "description": "Page channels only: also skips consent and holdout.",
              "type": "boolean",
              "default": false
            }
          }
        }
      }
    },
    "layer": {
      "description": "Experiments in disjoint ranges of one layer exclude each other.",
      "type": "object",
      "additionalProperties": false,
      "properties": {
        "kind": true,
        "id": {"$ref": "#/$defs/id"},
        "name": {"$ref": "#/$defs/human"},
        "description": {"$ref": "#/$defs/human"},
        "owner": {"$ref": "#/$defs/text"},
        "labels": {"$ref": "#/$defs/labels"}
      }
    },
    "experiment": {
      "description": "Assigns people to variants.",
      "type": "object",
      "additionalProperties": false,
      "required": ["layer", "range", "variants"],
      "properties": {
` + schemaMeta +
	`        "layer": {"$ref": "#/$defs/id"},
        "range": {"$ref": "#/$defs/range"},
        "unit": {"const": "user", "default": "user"},
        "coverage": {"$ref": "#/$defs/percent", "default": "100%"},
        "targeting": {"$ref": "#/$defs/tree"},
        "variants": {
          "type": "array",
          "minItems": 1,
          "maxItems": 200,
          "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["id", "weight"],
            "properties": {
              "id": {"$ref": "#/$defs/id"},
              "weight": {"type": "number", "minimum": 0, "maximum": 1000000000},
              "set": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                  "offers": {
                    "type": "object",
                    "maxProperties": 512,
                    "propertyNames": {"$ref": "#/$defs/id"},
                    "additionalProperties": {
                      "anyOf": [
                        {"description": "Not offered.", "const": false},
                        {
                          "type": "object",
                          "additionalProperties": false,
                          "minProperties": 1,
                          "properties": {
                            "treatment": {"$ref": "#/$defs/id"},
                            "lever": {"$ref": "#/$defs/amount"}
                          }
                        }
                      ]
                    }
                  },
                  "placements": {
                    "type": "object",
                    "maxProperties": 512,
                    "propertyNames": {"$ref": "#/$defs/id"},
                    "additionalProperties": {
                      "type": "object",
                      "additionalProperties": false,
                      "required": ["policy"],
                      "properties": {"policy": {"$ref": "#/$defs/id"}}
                    }
                  }
                }
              }
            }
          }
        }
      }
    },
    "holdout": {
      "description": "Nobody in the range gets what it covers.",
      "type": "object",
      "additionalProperties": false,
      "required": ["range"],
      "properties": {
` + schemaMeta +
	`        "range": {"$ref": "#/$defs/range"},
        "start": {"$ref": "#/$defs/time"},
        "end": {"$ref": "#/$defs/time"},
        "covers": {"$ref": "#/$defs/offers"},
        "classes": {"$ref": "#/$defs/bound_classes", "default": ["marketing"]}
      }
    },
    "test": {
      "description": "One decision with what it must give.",
      "type": "object",
      "additionalProperties": false,
      "required": ["at", "user", "decide", "expect"],
      "properties": {
` + schemaMeta +
	`        "at": {"$ref": "#/$defs/time"},
        "user": {
          "type": "object",
          "additionalProperties": false,
          "required": ["id"],
          "properties": {
            "id": {"type": "string", "minLength": 1, "maxLength": 128},
            "attributes": {"type": "object", "maxProperties": 512},
            "tags": {"type": "array"},
            "tiers": {
              "description": "Model to level.",
              "type": "object",
              "maxProperties": 512,
              "propertyNames": {"$ref": "#/$defs/id"},
              "additionalProperties": {"$ref": "#/$defs/text"}
            },
            "segments": {
              "description": "The static segments the person is in.",
              "type": "array",
              "items": {"$ref": "#/$defs/id"}
            },
            "events": {
              "description": "What the person did, in the order in which it came.",
              "type": "array",
              "items": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                  "event": {"$ref": "#/$defs/data_name"},
                  "event_id": {"type": "string"},
                  "outcome": {"$ref": "#/$defs/data_name"},
                  "offer": {"$ref": "#/$defs/id"},
                  "occurred_at": {"$ref": "#/$defs/time"},
                  "properties": {"type": "object"}
                },
                "oneOf": [{"required": ["event"]}, {"required": ["outcome"]}]
              }
            },
            "identities": {"type": "array"},
            "consents": {"type": "array"},
            "blacklist": {"type": "array"},
            "timezone": {"$ref": "#/$defs/zone"},
            "locale": {"$ref": "#/$defs/locale"},
            "addresses": {"type": "object", "maxProperties": 512}
          }
        },
        "decide": {
          "type": "object",
          "additionalProperties": false,
          "required": ["placement"],
          "properties": {
            "placement": {"$ref": "#/$defs/id"},
            "context": {"type": "object", "maxProperties": 512}
          }
        },
        "assign": {
          "description": "Experiment to variant.",
          "type": "object",
          "maxProperties": 512,
          "propertyNames": {"$ref": "#/$defs/id"},
          "additionalProperties": {"$ref": "#/$defs/id"}
        },
        "expect": {
          "type": "object",
          "additionalProperties": false,
          "properties": {
            "offer": {"$ref": "#/$defs/id"},
            "treatment": {"$ref": "#/$defs/id"},
            "content": {
              "description": "A subset of a json body, or the whole text.",
              "type": ["object", "string"]
            },
            "fallback": {"$ref": "#/$defs/id"},
            "no_decision": {"$ref": "#/$defs/reason"}
          },
          "oneOf": [
            {"required": ["offer"]},
            {"required": ["fallback"]},
            {"required": ["no_decision"], "properties": {"treatment": false, "content": false}}
          ]
        }
      }
    },
`
