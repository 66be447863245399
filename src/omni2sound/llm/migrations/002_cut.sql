-- Replies that ended at the limit of output tokens; one with a raised limit counts twice.
ALTER TABLE call ADD COLUMN num_cut INTEGER NOT NULL DEFAULT 0;
