-- Whose key a token was used for: the same key may come again with it.
ALTER TABLE tokens ADD COLUMN public_key TEXT;
