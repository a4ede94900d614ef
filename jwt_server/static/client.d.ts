/**
 * The browser client of jwt-server: signs in, keeps the session, and sends the token.
 *
 * A refresh that races or loses its response signs nobody out: the server returns the same successor
 * for the same `retry_key`. The lock and the channel between tabs only save requests.
 */
export type User = {
    id: number;
    username: string;
    admin: boolean;
    claims: Record<string, unknown>;
    created_at: string;
};
export type Reason = "start" | "signed_in" | "signed_out" | "elsewhere" | "expired" | "ended" | "stolen" | "updated";
export type Change = {
    user: User | null;
    reason: Reason;
};
export type Session = {
    id: string;
    created_at: string;
    last_used_at: string;
    address: string;
    user_agent: string;
    current: boolean;
};
export type Options = {
    /**
     * "memory" (the default) forgets the session with
     * the last tab, "session" keeps it for a reload of this tab, "local" for all tabs until it expires.
     * What is stored can be read by every script of the page's origin.
     */
    storage?: "memory" | "session" | "local";
    /**
     * Other origins that `fetch` may send the token to.
     */
    origins?: string[];
    /**
     * Asks for the password, which a change of the
     * account needs once in 15 minutes.
     */
    onStepUp?: () => Promise<string | null>;
    /**
     * Tells several clients of one page apart.
     */
    name?: string;
};
export type Pair = {
    access: string;
    refresh: string;
    got: number;
    until: number;
    /**
     * The session.
     */
    sid: string;
    /**
     * The user.
     */
    sub: string;
    /**
     * Counts the refreshes.
     */
    rev: number;
    /**
     * Counts the changes since the last refresh.
     */
    edit: number;
    /**
     * Empty until a refresh is about to be sent.
     */
    retry: string;
    /**
     * Null while a temporary password must be changed.
     */
    user: User | null;
};
export type Tokens = {
    access_token: string;
    expires_in: number;
    refresh_token: string;
};
export type Message = {
    ask?: string;
    pair?: Pair;
    isFull?: boolean;
    out?: string;
    reason?: Reason;
};
export type RequestOptions = {
    token?: string;
    retries?: boolean;
    keepalive?: boolean;
};
/** An error with the service's code, or `offline`, `timeout`, `signed_out`, `bad_response`, `origin`. */
export declare class AuthError extends Error {
    code: string;
    /** The HTTP status; 0 without a response. */
    status: number;
    /** Messages by field. */
    errors: Record<string, string[]>;
    /** Seconds to wait; 0 if the server names none. */
    retryAfter: number;
    requestId: string;
    /**
     * @param {string} code
     * @param {string} message
     * @param {{status?: number, errors?: Record<string, string[]>, retryAfter?: number, requestId?: string, cause?: unknown}} [more]
     */
    constructor(code: string, message: string, { cause, ...more }?: {
        status?: number;
        errors?: Record<string, string[]>;
        retryAfter?: number;
        requestId?: string;
        cause?: unknown;
    });
}
/** The session of one user at one service, shared by all tabs of an origin. */
export declare class AuthClient {
    #private;
    /** Resolves when the session that is stored, or that another tab has, is read. */
    ready: Promise<void>;
    /**
     * @param {string} baseUrl The service's address, such as `https://login.example.com`.
     * @param {Options} [options]
     */
    constructor(baseUrl: string, { storage, origins, onStepUp, name }?: Options);
    /** The signed-in user, as `GET /me` returns it; null if nobody is signed in. The same object until it changes. */
    get user(): User | null;
    /**
     * Sign in. This and the methods below reject with an AuthError.
     *
     * With the code `password_change_required`, `changePassword` is all that this session may do.
     *
     * @param {string} username
     * @param {string} password
     */
    signIn(username: string, password: string): Promise<void>;
    /**
     * Create an account, and sign in.
     *
     * @param {string} username
     * @param {string} password
     */
    signUp(username: string, password: string): Promise<void>;
    /**
     * Sign out at once, in all tabs; without a network the server is told later.
     *
     * @param {"local" | "others" | "global"} [scope] This session, all others of the user, or all.
     */
    signOut(scope?: "local" | "others" | "global"): Promise<void>;
    /**
     * Return a valid access token, refreshed if need be.
     *
     * @param {string} [rejected] One that a server has refused.
     * @returns {Promise<string>}
     */
    token(rejected?: string): Promise<string>;
    /**
     * Fetch with the token, as `window.fetch`; a path is the service's.
     *
     * @param {RequestInfo | URL} input
     * @param {RequestInit} [init]
     * @returns {Promise<Response>}
     */
    fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
    /**
     * Give the password again, which a change of the account needs.
     *
     * @param {string} password
     */
    reauth(password: string): Promise<void>;
    /** @returns {Promise<Session[]>} The user's active sessions, oldest first. */
    sessions(): Promise<Session[]>;
    /**
     * End one of the user's sessions.
     *
     * @param {string} id
     */
    endSession(id: string): Promise<void>;
    /**
     * Change the password, which ends all other sessions.
     *
     * @param {string} current
     * @param {string} changed
     */
    changePassword(current: string, changed: string): Promise<void>;
    /**
     * Call a function now, and when the user signs in or out, or changes.
     *
     * @param {(change: Change) => void} listener
     * @returns {() => void} A function that ends this.
     */
    onChange(listener: (change: Change) => void): () => void;
    /** Stop listening, to the other tabs too; the session goes on. */
    close(): void;
}
