// ErrorCode: every named refusal of the service as one byte. Pure data.
//
// Why        Results travel between threads in slots and rings; a byte costs nothing and cannot be misspelt.
//            The gRPC code and the exact text, which clients match, are beside it in Errors.cs and nowhere else.
namespace Cairn.Core.Protocol;

/// <summary>Outcome of a request. Values are internal: they are never written to disk or wire.</summary>
public enum ErrorCode : byte
{
    /// <summary>Success.</summary>
    None = 0,

    // Requests that are wrong in themselves.
    KeyNotProvided,
    KeyNotFound,
    ValueProvided,
    LeaseProvided,
    TooManyOps,
    DuplicateKey,
    InvalidSortOption,
    InvalidClientApiVersion,
    RequestTooLarge,

    /// <summary>The bytes are not the message they should be (gRPC INTERNAL).</summary>
    MalformedRequest,

    // Revisions and space.
    Compacted,
    FutureRev,
    NoSpace,

    // Leases.
    LeaseNotFound,
    LeaseExists,
    LeaseTtlTooLarge,

    // Watch.
    WatchCanceled,

    // Membership.
    MemberExists,
    PeerUrlExists,
    MemberNotEnoughStarted,
    MemberBadUrls,
    MemberNotFound,
    MemberNotLearner,
    LearnerNotReady,
    TooManyLearners,
    ClusterIdMismatch,

    // Load.
    TooManyRequests,

    // Auth.
    RootUserNotExist,
    RootRoleNotExist,
    UserAlreadyExist,
    UserEmpty,
    UserNotFound,
    RoleAlreadyExist,
    RoleNotFound,
    RoleEmpty,
    AuthFailed,
    PermissionNotGiven,
    PermissionDenied,
    RoleNotGranted,
    PermissionNotGranted,
    AuthNotEnabled,
    InvalidAuthToken,
    InvalidAuthManagement,
    AuthOldRevision,

    /// <summary>Authenticate as a user made without password (reaches the wire as UNKNOWN, as in etcd).</summary>
    NoPasswordUser,

    /// <summary>bcrypt's own limit of 72 bytes (UNKNOWN, as in etcd).</summary>
    PasswordTooLong,

    /// <summary>This member holds only the public JWT key (UNKNOWN, as in etcd).</summary>
    VerifyOnlyKey,

    // Leadership and time.
    NoLeader,
    NotLeader,
    LeaderChanged,
    NotCapable,
    Stopped,
    Timeout,
    TimeoutDueToLeaderFail,
    TimeoutDueToConnectionLost,
    TimeoutWaitAppliedIndex,
    TimeoutLeaderTransfer,
    Unhealthy,
    Corrupt,
    NotSupportedForLearner,
    BadLeaderTransferee,

    /// <summary>Raft refused the proposal and it was appended nowhere (UNKNOWN, as in etcd).</summary>
    ProposalDropped,

    /// <summary>Raft is shutting down (UNKNOWN, as in etcd).</summary>
    RaftStopped,

    /// <summary>Keep-alive at a leader that cannot prove it leads (UNKNOWN, as in etcd).</summary>
    NotPrimary,

    // Downgrade.
    ClusterVersionUnavailable,
    WrongDowngradeVersionFormat,
    InvalidDowngradeTargetVersion,
    DowngradeInProcess,
    NoInflightDowngrade,
    UnknownMethod,

    // The caller went away.
    RequestCanceled,
    ContextCanceled,
    ContextDeadlineExceeded,

    // RangeStream (3.7).
    RangeStreamSort,
    RangeStreamFilter,

    // Election and lock services.
    ElectionNoLeader,
    ElectionNotLeader,
    MutexSessionExpired,
    MissingLeaderKey,

    /// <summary>What an observer needed is gone: read or watch failed under it.</summary>
    ElectionObserveClosed,

    /// <summary>A fault of ours that does not end the process; the log has the details.</summary>
    Internal,
}
