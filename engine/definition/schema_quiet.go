package definition

// schemaQuiet is the kinds calendar and quiet_hours, and the windows of a day.
const schemaQuiet = `    "calendar": {
      "description": "Named days, such as the public holidays of a country.",
      "type": "object",
      "additionalProperties": false,
      "required": ["days"],
      "properties": {
` + schemaMeta +
	`        "source": {"description": "Where the dates come from.", "$ref": "#/$defs/text"},
        "days": {
          "type": "array",
          "minItems": 1,
          "maxItems": 10000,
          "items": {
            "description": "One date, or the days [from, until). Days of one id are one holiday.",
            "type": "object",
            "additionalProperties": false,
            "properties": {
              "id": {"$ref": "#/$defs/id"},
              "name": {"$ref": "#/$defs/human"},
              "date": {"$ref": "#/$defs/date"},
              "from": {"$ref": "#/$defs/date"},
              "until": {"$ref": "#/$defs/date"}
            },
            "oneOf": [
              {"required": ["date"], "properties": {"from": false, "until": false}},
              {"required": ["from", "until"], "properties": {"date": false}}
            ]
          }
        }
      }
    },
    "quiet_hours": {
      "description": "When what it selects may not be sent or shown.",
      "type": "object",
      "additionalProperties": false,
      "anyOf": [{"required": ["windows"]}, {"required": ["on"]}],
      "properties": {
` + schemaMeta +
	`        "applies_to": {
          "description": "Absent: everything of class marketing.",
          "type": "object",
          "additionalProperties": false,
          "minProperties": 1,
          "properties": {
            "offers": {"$ref": "#/$defs/selector"},
            "channels": {"$ref": "#/$defs/channels", "minItems": 1},
            "placements": {"$ref": "#/$defs/ids", "minItems": 1},
            "message_classes": {
              "$ref": "#/$defs/bound_classes",
              "minItems": 1,
              "default": ["marketing"]
            }
          }
        },
        "segment": {"description": "Absent: everybody.", "$ref": "#/$defs/id"},
        "windows": {"description": "Absent: the whole day.", "$ref": "#/$defs/day_windows"},
        "on": {"description": "Absent: every day.", "$ref": "#/$defs/calendar_days"},
        "except": {"$ref": "#/$defs/calendar_days"},
        "when_hit": {"enum": ["hold", "drop"], "default": "hold"}
      }
    },
    "day_windows": {
      "type": "array",
      "minItems": 1,
      "maxItems": 8,
      "items": {
        "description": "[from, until) of the person's day; may cross midnight.",
        "type": "object",
        "additionalProperties": false,
        "required": ["from", "until"],
        "properties": {
          "from": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"},
          "until": {
            "type": "string",
            "pattern": "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
          },
          "days": {
            "description": "Days of the week on which it begins. Absent: every day.",
            "type": "array",
            "minItems": 1,
            "uniqueItems": true,
            "items": {
              "enum": [
                "sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"
              ]
            }
          }
        }
      }
    },
    "calendar_days": {
      "description": "Calendars, or calendar/id for the days of one id.",
      "type": "array",
      "minItems": 1,
      "maxItems": 10000,
      "uniqueItems": true,
      "items": {
        "type": "string",
        "pattern": "^[a-z0-9][a-z0-9_-]{0,63}(/[a-z0-9][a-z0-9_-]{0,63})?$"
      }
    },
    "date": {"type": "string", "pattern": "^\\d{4}-\\d\\d-\\d\\d$"},
`
