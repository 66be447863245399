-- Keys by which costs are summed.
CREATE TABLE kind (
    id INTEGER PRIMARY KEY,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    UNIQUE (endpoint, model, prompt_version)
);

-- A process that has the file open; it holds the lock file of the same name.
CREATE TABLE owner (id TEXT PRIMARY KEY, opened_at TEXT NOT NULL) WITHOUT ROWID;

-- A request; leased while it has an owner, done once it has an answer.
CREATE TABLE call (
    key TEXT PRIMARY KEY,
    kind INTEGER NOT NULL REFERENCES kind,
    label TEXT NOT NULL,
    owner TEXT REFERENCES owner,
    answer TEXT,
    num_malformed INTEGER NOT NULL DEFAULT 0,
    num_refused INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- A send, written before it happens as `sent`; `lost` if its outcome is unknown.
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL REFERENCES call,
    kind INTEGER NOT NULL REFERENCES kind,
    owner TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('sent', 'answered', 'malformed', 'refused', 'rejected', 'lost')),
    sent_at TEXT NOT NULL,
    settled_at TEXT,
    known_pusd INTEGER CHECK (typeof(known_pusd) IN ('integer', 'null')),
    uncertain_pusd INTEGER CHECK (typeof(uncertain_pusd) IN ('integer', 'null')),
    input_tokens INTEGER,
    output_tokens INTEGER,
    detail TEXT
);
CREATE INDEX attempt_of_key ON attempt (key);
CREATE INDEX attempt_in_flight ON attempt (owner) WHERE state = 'sent';
CREATE INDEX call_leased ON call (owner) WHERE owner IS NOT NULL;

CREATE TABLE total (
    kind INTEGER NOT NULL REFERENCES kind,
    state TEXT NOT NULL,
    num INTEGER NOT NULL,
    num_unpriced INTEGER NOT NULL,
    known_pusd INTEGER NOT NULL,
    uncertain_pusd INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    PRIMARY KEY (kind, state)
) WITHOUT ROWID;

-- `total` follows `attempt`: an added row counts, a removed one no longer does, a changed one
-- is removed and added.
CREATE TRIGGER attempt_added AFTER INSERT ON attempt BEGIN
    INSERT INTO total (kind, state, num, num_unpriced, known_pusd, uncertain_pusd,
                       input_tokens, output_tokens)
    VALUES (NEW.kind, NEW.state, 1, NEW.known_pusd IS NULL, ifnull(NEW.known_pusd, 0),
            ifnull(NEW.uncertain_pusd, 0), ifnull(NEW.input_tokens, 0),
            ifnull(NEW.output_tokens, 0))
    ON CONFLICT (kind, state) DO UPDATE SET
        num = num + 1,
        num_unpriced = num_unpriced + excluded.num_unpriced,
        known_pusd = known_pusd + excluded.known_pusd,
        uncertain_pusd = uncertain_pusd + excluded.uncertain_pusd,
        input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens;
END;
CREATE TRIGGER attempt_changed AFTER UPDATE ON attempt BEGIN
    UPDATE total SET
        num = num - 1,
        num_unpriced = num_unpriced - (OLD.known_pusd IS NULL),
        known_pusd = known_pusd - ifnull(OLD.known_pusd, 0),
        uncertain_pusd = uncertain_pusd - ifnull(OLD.uncertain_pusd, 0),
        input_tokens = input_tokens - ifnull(OLD.input_tokens, 0),
        output_tokens = output_tokens - ifnull(OLD.output_tokens, 0)
    WHERE kind = OLD.kind AND state = OLD.state;
    INSERT INTO total (kind, state, num, num_unpriced, known_pusd, uncertain_pusd,
                       input_tokens, output_tokens)
    VALUES (NEW.kind, NEW.state, 1, NEW.known_pusd IS NULL, ifnull(NEW.known_pusd, 0),
            ifnull(NEW.uncertain_pusd, 0), ifnull(NEW.input_tokens, 0),
            ifnull(NEW.output_tokens, 0))
    ON CONFLICT (kind, state) DO UPDATE SET
        num = num + 1,
        num_unpriced = num_unpriced + excluded.num_unpriced,
        known_pusd = known_pusd + excluded.known_pusd,
        uncertain_pusd = uncertain_pusd + excluded.uncertain_pusd,
        input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens;
END;
CREATE TRIGGER attempt_removed AFTER DELETE ON attempt BEGIN
    UPDATE total SET
        num = num - 1,
        num_unpriced = num_unpriced - (OLD.known_pusd IS NULL),
        known_pusd = known_pusd - ifnull(OLD.known_pusd, 0),
        uncertain_pusd = uncertain_pusd - ifnull(OLD.uncertain_pusd, 0),
        input_tokens = input_tokens - ifnull(OLD.input_tokens, 0),
        output_tokens = output_tokens - ifnull(OLD.output_tokens, 0)
    WHERE kind = OLD.kind AND state = OLD.state;
END;
