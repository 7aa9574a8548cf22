package definition

// schemaParts is what the kinds share, condition trees, and the end.
const schemaParts = `    "id": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"},
    "ids": {
      "type": "array",
      "items": {"$ref": "#/$defs/id"},
      "maxItems": 10000,
      "uniqueItems": true
    },
    "group": {
      "type": "string",
      "pattern": "^[a-z0-9][a-z0-9_-]{0,63}(/[a-z0-9][a-z0-9_-]{0,63}){0,5}$"
    },
    "data_name": {
      "description": "Name of a tag, attribute, event or property: NFC, case-sensitive.",
      "type": "string",
      "minLength": 1,
      "maxLength": 64,
      "pattern": "^[^\u0000-\u001f\u007f-\u009f]*$"
    },
    "text": {"type": "string", "minLength": 1},
    "human": {
      "description": "One text, or one for each language.",
      "anyOf": [
        {"$ref": "#/$defs/text"},
        {
          "type": "object",
          "maxProperties": 512,
          "propertyNames": {"$ref": "#/$defs/locale"},
          "additionalProperties": {"$ref": "#/$defs/text"}
        }
      ]
    },
    "labels": {
      "type": "object",
      "maxProperties": 512,
      "propertyNames": {"$ref": "#/$defs/data_name"},
      "additionalProperties": {"$ref": "#/$defs/text"}
    },
    "locale": {"type": "string", "pattern": "^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}$"},
    "zone": {"description": "IANA name.", "type": "string", "pattern": "^[A-Za-z0-9_+/-]{1,64}$"},
    "type": {"enum": ["bool", "int", "float", "string", "date", "time", "list", "semver"]},
    "values": {
      "description": "A closed list.",
      "type": "array",
      "items": {"type": "string", "pattern": "\\S"},
      "minItems": 1,
      "maxItems": 10000,
      "uniqueItems": true
    },
    "channel": {
      "enum": ["web", "in_app", "push", "email", "sms", "call", "wechat", "wecom"]
    },
    "channels": {"type": "array", "items": {"$ref": "#/$defs/channel"}, "uniqueItems": true},
    "class": {"enum": ["marketing", "transactional", "mandatory"]},
    "classes": {"type": "array", "items": {"$ref": "#/$defs/class"}, "uniqueItems": true},
    "bound_classes": {
      "type": "array",
      "items": {"enum": ["marketing", "transactional"]},
      "uniqueItems": true
    },
    "reaction": {"enum": ["click", "accept", "convert", "reject", "dismiss"]},
    "rejection": {
      "description": "A reaction, or a declared event.",
      "$ref": "#/$defs/data_name",
      "not": {"enum": ["impression", "send", "delivered", "decision"]}
    },
    "rejections": {
      "type": "array",
      "minItems": 1,
      "maxItems": 25,
      "uniqueItems": true,
      "items": {"$ref": "#/$defs/rejection"}
    },
    "cap_window": {
      "anyOf": [{"$ref": "#/$defs/window"}, {"$ref": "#/$defs/between_window"}]
    },
    "between_window": {
      "type": "object",
      "additionalProperties": false,
      "required": ["between"],
      "properties": {
        "between": {
          "description": "[from, until).",
          "type": "array",
          "items": {"$ref": "#/$defs/time"},
          "minItems": 2,
          "maxItems": 2
        }
      }
    },
    "duration": {
      "description": "A whole number and s, m, h, d or w.",
      "type": "string",
      "pattern": "^[1-9][0-9]{0,8}[smhdw]$"
    },
    "time": {
      "description": "RFC 3339 with its zone.",
      "type": "string",
      "pattern": "^\\d{4}-\\d\\d-\\d\\dT\\d\\d(:\\d\\d){2}(\\.\\d+)?(Z|[+-]\\d\\d:\\d\\d)$"
    },
    "percent": {
      "type": "string",
      "pattern": "^(100(\\.0{1,2})?|(0|[1-9][0-9]?)(\\.[0-9]{1,2})?)%$"
    },
    "range": {
      "description": "[from, until) in percent.",
      "type": "array",
      "items": {"$ref": "#/$defs/percent"},
      "minItems": 2,
      "maxItems": 2
    },
    "amount": {"type": "number", "minimum": 0, "maximum": 1000000000000},
    "decimal": {
      "description": "An amount, with no more decimals than its currency has.",
      "anyOf": [
        {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"},
        {"type": "number", "minimum": 0, "maximum": 1000000000000}
      ]
    },
    "money": {
      "type": "object",
      "additionalProperties": false,
      "required": ["amount", "currency"],
      "properties": {
        "amount": {"$ref": "#/$defs/decimal"},
        "currency": {"description": "ISO 4217.", "type": "string", "pattern": "^[A-Z]{3}$"}
      }
    },
    "exponent": {"type": "number", "minimum": 0, "maximum": 4, "default": 1},
    "read": {
      "description": "A user attribute, read at the decision.",
      "type": "object",
      "additionalProperties": false,
      "required": ["attribute"],
      "properties": {"attribute": {"$ref": "#/$defs/data_name"}}
    },
    "selector": {
      "anyOf": [
        {"const": "all"},
        {
          "type": "object",
          "additionalProperties": false,
          "minProperties": 1,
          "properties": {
            "ids": {"$ref": "#/$defs/ids"},
            "groups": {
              "description": "A group holds its sub-groups.",
              "type": "array",
              "items": {"$ref": "#/$defs/group"},
              "maxItems": 10000,
              "uniqueItems": true
            },
            "labels": {"$ref": "#/$defs/labels"},
            "not": {"$ref": "#/$defs/selector"}
          }
        }
      ]
    },
    "offers": {
      "type": "object",
      "additionalProperties": false,
      "required": ["offers"],
      "properties": {"offers": {"$ref": "#/$defs/selector"}}
    },
    "window": {
      "anyOf": [
        {"const": "lifetime"},
        {
          "type": "object",
          "additionalProperties": false,
          "required": ["rolling"],
          "properties": {"rolling": {"$ref": "#/$defs/duration"}}
        },
        {
          "type": "object",
          "additionalProperties": false,
          "required": ["calendar"],
          "properties": {
            "calendar": {"enum": ["hour", "day", "week", "month", "quarter", "year"]},
            "every": {"type": "integer", "minimum": 1, "maximum": 366, "default": 1},
            "zone": {"enum": ["user", "workspace", "UTC"]},
            "week_start": {
              "enum": [
                "sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"
              ],
              "default": "monday"
            }
          }
        }
      ]
    },
    "reason": {
      "enum": [
        "inactive", "not_started", "expired", "channel_mismatch", "placement_mismatch",
        "blocked_by_request", "ineligible", "not_applicable", "not_suitable", "value_unknown",
        "consent_missing", "blacklisted", "quiet_hours", "timezone_unknown", "capped_user",
        "capped_contact", "capped_total", "min_gap", "suppressed", "holdout",
        "experiment_excluded", "lost_arbitration", "duplicate_in_request", "no_treatment",
        "render_error", "deadline", "user_not_found", "error"
      ]
    },
    "tree": {
      "description": "A condition tree: all, any, not over atoms.",
      "type": "object",
      "properties": {
        "note": {"type": "string"},
        "id": {"type": "string"},
        "safety": {
          "description": "The rule holds and everything it names is known.",
          "type": "boolean"
        }
      },
      "oneOf": [
        {"$ref": "#/$defs/all"},
        {"$ref": "#/$defs/any"},
        {"$ref": "#/$defs/not"},
        {"$ref": "#/$defs/attribute_atom"},
        {"$ref": "#/$defs/context_atom"},
        {"$ref": "#/$defs/tag_atom"},
        {"$ref": "#/$defs/tier_atom"},
        {"$ref": "#/$defs/segment_atom"},
        {"$ref": "#/$defs/percent_atom"},
        {"$ref": "#/$defs/event_atom"},
        {"$ref": "#/$defs/outcome_atom"},
        {"$ref": "#/$defs/sequence_atom"},
        {"$ref": "#/$defs/unseen_atom"}
      ],
      "unevaluatedProperties": false
    },
    "all": {
      "required": ["all"],
      "properties": {"all": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}
    },
    "any": {
      "required": ["any"],
      "properties": {"any": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "minItems": 1}}
    },
    "not": {"required": ["not"], "properties": {"not": {"$ref": "#/$defs/tree"}}},
    "attribute_atom": {
      "required": ["attribute"],
      "minProperties": 2,
      "properties": {"attribute": {"$ref": "#/$defs/data_name"}},
      "$ref": "#/$defs/comparisons"
    },
    "context_atom": {
      "required": ["context"],
      "minProperties": 2,
      "properties": {
        "context": {
          "description": "Of a placement; placement, channel: the slot; hour_of_week …: the clock.",
          "$ref": "#/$defs/data_name"
        }
      },
      "$ref": "#/$defs/comparisons"
    },
    "tag_atom": {
      "required": ["tag"],
      "properties": {
        "tag": {"$ref": "#/$defs/data_name"},
        "is": {"$ref": "#/$defs/value"},
        "is_not": {"$ref": "#/$defs/value"},
        "in": {"$ref": "#/$defs/value_list"},
        "not_in": {"$ref": "#/$defs/value_list"},
        "is_set": {"type": "boolean"}
      }
    },
    "tier_atom": {
      "description": "The level of a model; gt, gte, lt, lte by the order of its levels.",
      "required": ["tier"],
      "properties": {
        "tier": {"$ref": "#/$defs/id"},
        "is": {"$ref": "#/$defs/value"},
        "is_not": {"$ref": "#/$defs/value"},
        "in": {"$ref": "#/$defs/value_list"},
        "not_in": {"$ref": "#/$defs/value_list"},
        "gt": {"$ref": "#/$defs/value"},
        "gte": {"$ref": "#/$defs/value"},
        "lt": {"$ref": "#/$defs/value"},
        "lte": {"$ref": "#/$defs/value"},
        "is_set": {"type": "boolean"}
      }
    },
    "segment_atom": {"required": ["segment"], "properties": {"segment": {"$ref": "#/$defs/id"}}},
    "percent_atom": {
      "description": "Rules with one salt draw the same people.",
      "required": ["percent", "salt"],
      "properties": {
        "percent": {"$ref": "#/$defs/range"},
        "salt": {"type": "string", "minLength": 1, "maxLength": 256}
      }
    },
    "event_atom": {
      "description": "What the person did; * is any event. Without more: at least once.",
      "required": ["event"],
      "properties": {
        "event": {"$ref": "#/$defs/data_name"},
        "where": {"$ref": "#/$defs/where"},
        "of": {"description": "An indexed property.", "$ref": "#/$defs/data_name"},
        "sum": {"$ref": "#/$defs/compared"},
        "min": {"$ref": "#/$defs/compared"},
        "max": {"$ref": "#/$defs/compared"},
        "avg": {"$ref": "#/$defs/compared"}
      },
      "$ref": "#/$defs/gathered"
    },
    "outcome_atom": {
      "description": "What came of offers.",
      "required": ["outcome"],
      "properties": {
        "outcome": {"$ref": "#/$defs/outcome"},
        "offers": {"$ref": "#/$defs/selector"}
      },
      "$ref": "#/$defs/gathered"
    },
    "sequence_atom": {
      "description": "One event after the other; within is the time from first to last.",
      "required": ["sequence", "within"],
      "properties": {
        "sequence": {
          "type": "array",
          "items": {"$ref": "#/$defs/step"},
          "minItems": 2,
          "maxItems": 8
        },
        "within": {"$ref": "#/$defs/span"},
        "without": {"$ref": "#/$defs/step"}
      }
    },
    "unseen_atom": {
      "required": ["not_seen_for"],
      "properties": {"not_seen_for": {"$ref": "#/$defs/span"}}
    },
    "step": {
      "type": "object",
      "oneOf": [
        {
          "additionalProperties": false,
          "required": ["event"],
          "properties": {
            "event": {"$ref": "#/$defs/data_name"},
            "where": {"$ref": "#/$defs/where"},
            "note": {"type": "string"},
            "id": {"type": "string"}
          }
        },
        {
          "additionalProperties": false,
          "required": ["outcome"],
          "properties": {
            "outcome": {"$ref": "#/$defs/outcome"},
            "offers": {"$ref": "#/$defs/selector"},
            "note": {"type": "string"},
            "id": {"type": "string"}
          }
        }
      ]
    },
    "outcome": {
      "enum": [
        "impression", "send", "delivered", "click", "accept", "convert", "reject", "dismiss"
      ]
    },
    "gathered": {
      "properties": {
        "count": {"$ref": "#/$defs/compared"},
        "first": {"description": "Its time, or its property.", "$ref": "#/$defs/compared"},
        "last": {"description": "Its time, or its property.", "$ref": "#/$defs/compared"},
        "distinct": {
          "description": "day: count counts days. Else different values of a property.",
          "anyOf": [{"const": "day"}, {"$ref": "#/$defs/compared"}]
        },
        "within": {"$ref": "#/$defs/span"},
        "window": {
          "anyOf": [
            {"$ref": "#/$defs/window"},
            {"$ref": "#/$defs/between_window"}
          ]
        }
      },
      "not": {"required": ["within", "window"]}
    },
    "where": {
      "description": "All must hold for one event.",
      "type": "array",
      "minItems": 1,
      "maxItems": 8,
      "items": {
        "type": "object",
        "required": ["property"],
        "minProperties": 2,
        "properties": {
          "property": {"$ref": "#/$defs/data_name"},
          "note": {"type": "string"},
          "id": {"type": "string"}
        },
        "$ref": "#/$defs/comparisons",
        "unevaluatedProperties": false
      }
    },
    "compared": {
      "type": "object",
      "minProperties": 1,
      "$ref": "#/$defs/comparisons",
      "unevaluatedProperties": false
    },
    "value": {
      "anyOf": [
        {"type": ["string", "number", "boolean"]},
        {"$ref": "#/$defs/of_offer"}
      ]
    },
    "of_offer": {
      "description": "An attribute of the offer, read at publish.",
      "type": "object",
      "additionalProperties": false,
      "required": ["offer"],
      "properties": {"offer": {"$ref": "#/$defs/data_name"}}
    },
    "value_list": {
      "anyOf": [
        {"type": "array", "items": {"$ref": "#/$defs/value"}, "minItems": 1},
        {"$ref": "#/$defs/of_offer"}
      ]
    },
    "value_pair": {
      "type": "array",
      "items": {"$ref": "#/$defs/value"},
      "minItems": 2,
      "maxItems": 2
    },
    "span": {"anyOf": [{"$ref": "#/$defs/duration"}, {"$ref": "#/$defs/of_offer"}]},
    "days": {"anyOf": [{"const": "0d"}, {"$ref": "#/$defs/span"}]},
    "counted": {
      "type": "object",
      "additionalProperties": false,
      "minProperties": 1,
      "properties": {
        "is": {"$ref": "#/$defs/value"},
        "is_not": {"$ref": "#/$defs/value"},
        "in": {"$ref": "#/$defs/value_list"},
        "not_in": {"$ref": "#/$defs/value_list"},
        "gt": {"$ref": "#/$defs/value"},
        "gte": {"$ref": "#/$defs/value"},
        "lt": {"$ref": "#/$defs/value"},
        "lte": {"$ref": "#/$defs/value"},
        "between": {"$ref": "#/$defs/value_pair"}
      }
    },
    "comparisons": {
      "properties": {
        "is": {"$ref": "#/$defs/value"},
        "is_not": {"$ref": "#/$defs/value"},
        "in": {"$ref": "#/$defs/value_list"},
        "not_in": {"$ref": "#/$defs/value_list"},
        "gt": {"$ref": "#/$defs/value"},
        "gte": {"$ref": "#/$defs/value"},
        "lt": {"$ref": "#/$defs/value"},
        "lte": {"$ref": "#/$defs/value"},
        "between": {"$ref": "#/$defs/value_pair"},
        "starts_with": {"$ref": "#/$defs/value"},
        "ends_with": {"$ref": "#/$defs/value"},
        "contains": {"$ref": "#/$defs/value"},
        "matches": {"$ref": "#/$defs/value"},
        "is_set": {"type": "boolean"},
        "fold": {"description": "Ignore case.", "type": "boolean"},
        "before": {"$ref": "#/$defs/value"},
        "after": {"$ref": "#/$defs/value"},
        "within_last": {"$ref": "#/$defs/span"},
        "within_next": {"$ref": "#/$defs/span"},
        "years_since": {"$ref": "#/$defs/counted"},
        "months_since": {"$ref": "#/$defs/counted"},
        "anniversary": {
          "type": "object",
          "additionalProperties": false,
          "minProperties": 1,
          "properties": {"before": {"$ref": "#/$defs/days"}, "after": {"$ref": "#/$defs/days"}}
        }
      }
    }
  }
}
`
