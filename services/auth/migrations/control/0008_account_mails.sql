-- Mails about accounts: links that replace a forgotten password or prove a new address, and notices of what was changed.
-- Locks: only a new table. Safe for code that is already running: yes.

SET LOCAL lock_timeout = '5s';

-- The link's token is HMAC(key, id || nonce), made when the mail is written; here lies only its SHA-256.
CREATE TABLE auth.account_mails (
    id uuid NOT NULL,
    kind text NOT NULL,
    -- Null for a password reset: whether the address has an account is looked up when the mail is written, so that
    -- asking for one is the same work whether there is one or not.
    identity_id uuid,
    -- To whom; for a password reset, what was typed.
    email text NOT NULL,
    email_key text NOT NULL GENERATED ALWAYS AS (lower(email)) STORED,
    nonce bytea,
    token_hash bytea,
    -- closed: another was used, or the account has changed since.
    state text NOT NULL DEFAULT 'open',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT account_mails_pkey PRIMARY KEY (id),
    CONSTRAINT account_mails_token_hash UNIQUE (token_hash),
    CONSTRAINT account_mails_identity FOREIGN KEY (identity_id) REFERENCES auth.identities (id) ON DELETE CASCADE,
    CONSTRAINT account_mails_kind CHECK (kind IN
        ('password_reset', 'email_change', 'password_changed', 'email_changed')),
    CONSTRAINT account_mails_state CHECK (state IN ('open', 'used', 'closed')),
    CONSTRAINT account_mails_of_whom CHECK ((identity_id IS NULL) = (kind = 'password_reset')),
    CONSTRAINT account_mails_link CHECK ((kind IN ('password_reset', 'email_change')) = (token_hash IS NOT NULL)),
    CONSTRAINT account_mails_nonce CHECK ((nonce IS NULL) = (token_hash IS NULL))
);
CREATE INDEX account_mails_to ON auth.account_mails (email_key, created_at);
CREATE INDEX account_mails_of_identity ON auth.account_mails (identity_id, created_at);
CREATE INDEX account_mails_by_expiry ON auth.account_mails (expires_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.account_mails TO rowhouse_ctl_auth;
