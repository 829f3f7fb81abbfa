// Errors: the one table from internal result to gRPC code and exact text. Pure data.
//
// Why        Client libraries match the text byte for byte (odd spelling included), so it is written once, here.
//            Codes are those that reach the wire of etcd 3.6.14: a few differ from etcd's own table because the
//            real server loses the code on the way ("too many requests" arrives as UNKNOWN); clients depend on it.
namespace Cairn.Core.Protocol;

/// <summary>gRPC status numbers.</summary>
public static class GrpcCode
{
    public const int Ok = 0;
    public const int Cancelled = 1;
    public const int Unknown = 2;
    public const int InvalidArgument = 3;
    public const int DeadlineExceeded = 4;
    public const int NotFound = 5;
    public const int AlreadyExists = 6;
    public const int PermissionDenied = 7;
    public const int ResourceExhausted = 8;
    public const int FailedPrecondition = 9;
    public const int Aborted = 10;
    public const int OutOfRange = 11;
    public const int Unimplemented = 12;
    public const int Internal = 13;
    public const int Unavailable = 14;
    public const int DataLoss = 15;
    public const int Unauthenticated = 16;
}

/// <summary>What a client sees for each <see cref="ErrorCode"/>.</summary>
public static class Errors
{
    /// <summary>The gRPC status and its message; (0, "") for success. Allocation-free.</summary>
    public static (int GrpcCode, string Message) Get(ErrorCode code) => code switch
    {
        ErrorCode.None => (GrpcCode.Ok, ""),

        ErrorCode.KeyNotProvided => (GrpcCode.InvalidArgument, "etcdserver: key is not provided"),
        ErrorCode.KeyNotFound => (GrpcCode.InvalidArgument, "etcdserver: key not found"),
        ErrorCode.ValueProvided => (GrpcCode.InvalidArgument, "etcdserver: value is provided"),
        ErrorCode.LeaseProvided => (GrpcCode.InvalidArgument, "etcdserver: lease is provided"),
        ErrorCode.TooManyOps => (GrpcCode.InvalidArgument, "etcdserver: too many operations in txn request"),
        ErrorCode.DuplicateKey => (GrpcCode.InvalidArgument, "etcdserver: duplicate key given in txn request"),
        ErrorCode.InvalidSortOption => (GrpcCode.InvalidArgument, "etcdserver: invalid sort option"),
        ErrorCode.InvalidClientApiVersion => (GrpcCode.InvalidArgument, "etcdserver: invalid client api version"),
        ErrorCode.RequestTooLarge => (GrpcCode.InvalidArgument, "etcdserver: request is too large"),
        ErrorCode.MalformedRequest => (GrpcCode.Internal, "grpc: error unmarshalling request: proto: malformed message"),

        ErrorCode.Compacted =>
            (GrpcCode.OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
        ErrorCode.FutureRev =>
            (GrpcCode.OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
        ErrorCode.NoSpace => (GrpcCode.ResourceExhausted, "etcdserver: mvcc: database space exceeded"),

        ErrorCode.LeaseNotFound => (GrpcCode.NotFound, "etcdserver: requested lease not found"),
        ErrorCode.LeaseExists => (GrpcCode.FailedPrecondition, "etcdserver: lease already exists"),
        ErrorCode.LeaseTtlTooLarge => (GrpcCode.OutOfRange, "etcdserver: too large lease TTL"),

        ErrorCode.WatchCanceled => (GrpcCode.Cancelled, "etcdserver: watch canceled"),

        ErrorCode.MemberExists => (GrpcCode.FailedPrecondition, "etcdserver: member ID already exist"),
        ErrorCode.PeerUrlExists => (GrpcCode.FailedPrecondition, "etcdserver: Peer URLs already exists"),
        ErrorCode.MemberNotEnoughStarted =>
            (GrpcCode.Unknown, "etcdserver: re-configuration failed due to not enough started members"),
        ErrorCode.MemberBadUrls => (GrpcCode.InvalidArgument, "etcdserver: given member URLs are invalid"),
        ErrorCode.MemberNotFound => (GrpcCode.NotFound, "etcdserver: member not found"),
        ErrorCode.MemberNotLearner => (GrpcCode.FailedPrecondition, "etcdserver: can only promote a learner member"),
        ErrorCode.LearnerNotReady =>
            (GrpcCode.FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader"),
        ErrorCode.TooManyLearners =>
            (GrpcCode.FailedPrecondition, "etcdserver: too many learner members in cluster"),
        ErrorCode.ClusterIdMismatch => (GrpcCode.FailedPrecondition, "etcdserver: cluster ID mismatch"),

        ErrorCode.TooManyRequests => (GrpcCode.Unknown, "etcdserver: too many requests"),

        ErrorCode.RootUserNotExist => (GrpcCode.FailedPrecondition, "etcdserver: root user does not exist"),
        ErrorCode.RootRoleNotExist =>
            (GrpcCode.FailedPrecondition, "etcdserver: root user does not have root role"),
        ErrorCode.UserAlreadyExist => (GrpcCode.FailedPrecondition, "etcdserver: user name already exists"),
        ErrorCode.UserEmpty => (GrpcCode.InvalidArgument, "etcdserver: user name is empty"),
        ErrorCode.UserNotFound => (GrpcCode.FailedPrecondition, "etcdserver: user name not found"),
        ErrorCode.RoleAlreadyExist => (GrpcCode.FailedPrecondition, "etcdserver: role name already exists"),
        ErrorCode.RoleNotFound => (GrpcCode.FailedPrecondition, "etcdserver: role name not found"),
        ErrorCode.RoleEmpty => (GrpcCode.InvalidArgument, "etcdserver: role name is empty"),
        ErrorCode.AuthFailed =>
            (GrpcCode.InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"),
        ErrorCode.PermissionNotGiven => (GrpcCode.InvalidArgument, "etcdserver: permission not given"),
        ErrorCode.PermissionDenied => (GrpcCode.PermissionDenied, "etcdserver: permission denied"),
        ErrorCode.RoleNotGranted => (GrpcCode.FailedPrecondition, "etcdserver: role is not granted to the user"),
        ErrorCode.PermissionNotGranted =>
            (GrpcCode.FailedPrecondition, "etcdserver: permission is not granted to the role"),
        ErrorCode.AuthNotEnabled => (GrpcCode.FailedPrecondition, "etcdserver: authentication is not enabled"),
        ErrorCode.InvalidAuthToken => (GrpcCode.Unauthenticated, "etcdserver: invalid auth token"),
        ErrorCode.InvalidAuthManagement => (GrpcCode.InvalidArgument, "etcdserver: invalid auth management"),
        ErrorCode.AuthOldRevision => (GrpcCode.InvalidArgument, "etcdserver: revision of auth store is old"),
        ErrorCode.NoPasswordUser =>
            (GrpcCode.Unknown, "auth: authentication failed, password was given for no password user"),
        ErrorCode.PasswordTooLong => (GrpcCode.Unknown, "bcrypt: password length exceeds 72 bytes"),
        ErrorCode.VerifyOnlyKey => (GrpcCode.Unknown, "auth: token signing attempted with verify-only key"),

        ErrorCode.NoLeader => (GrpcCode.Unavailable, "etcdserver: no leader"),
        ErrorCode.NotLeader => (GrpcCode.FailedPrecondition, "etcdserver: not leader"),
        ErrorCode.LeaderChanged => (GrpcCode.Unavailable, "etcdserver: leader changed"),
        ErrorCode.NotCapable => (GrpcCode.FailedPrecondition, "etcdserver: not capable"),
        ErrorCode.Stopped => (GrpcCode.Unavailable, "etcdserver: server stopped"),
        ErrorCode.Timeout => (GrpcCode.Unavailable, "etcdserver: request timed out"),
        ErrorCode.TimeoutDueToLeaderFail =>
            (GrpcCode.Unavailable, "etcdserver: request timed out, possibly due to previous leader failure"),
        ErrorCode.TimeoutDueToConnectionLost =>
            (GrpcCode.Unavailable, "etcdserver: request timed out, possibly due to connection lost"),
        ErrorCode.TimeoutWaitAppliedIndex =>
            (GrpcCode.Unavailable, "etcdserver: request timed out, waiting for the applied index took too long"),
        ErrorCode.TimeoutLeaderTransfer =>
            (GrpcCode.Unknown, "etcdserver: request timed out, leader transfer took too long"),
        ErrorCode.Unhealthy => (GrpcCode.Unavailable, "etcdserver: unhealthy cluster"),
        ErrorCode.Corrupt => (GrpcCode.DataLoss, "etcdserver: corrupt cluster"),
        ErrorCode.NotSupportedForLearner =>
            (GrpcCode.FailedPrecondition, "etcdserver: rpc not supported for learner"),
        ErrorCode.BadLeaderTransferee => (GrpcCode.FailedPrecondition, "etcdserver: bad leader transferee"),
        ErrorCode.ProposalDropped => (GrpcCode.Unknown, "raft proposal dropped"),
        ErrorCode.RaftStopped => (GrpcCode.Unknown, "raft: stopped"),
        ErrorCode.NotPrimary => (GrpcCode.Unknown, "not a primary lessor"),

        ErrorCode.ClusterVersionUnavailable =>
            (GrpcCode.FailedPrecondition, "etcdserver: cluster version not found during downgrade"),
        ErrorCode.WrongDowngradeVersionFormat =>
            (GrpcCode.InvalidArgument, "etcdserver: wrong downgrade target version format"),
        ErrorCode.InvalidDowngradeTargetVersion =>
            (GrpcCode.InvalidArgument, "etcdserver: invalid downgrade target version"),
        ErrorCode.DowngradeInProcess =>
            (GrpcCode.FailedPrecondition, "etcdserver: cluster has a downgrade job in progress"),
        ErrorCode.NoInflightDowngrade => (GrpcCode.FailedPrecondition, "etcdserver: no inflight downgrade job"),
        ErrorCode.UnknownMethod => (GrpcCode.Unknown, "etcdserver: unknown method"),

        ErrorCode.RequestCanceled => (GrpcCode.Cancelled, "etcdserver: request canceled"),
        ErrorCode.ContextCanceled => (GrpcCode.Cancelled, "context canceled"),
        ErrorCode.ContextDeadlineExceeded => (GrpcCode.DeadlineExceeded, "context deadline exceeded"),

        ErrorCode.RangeStreamSort => (GrpcCode.Unimplemented, "RangeStream does not support custom sort orders"),
        ErrorCode.RangeStreamFilter => (GrpcCode.Unimplemented, "RangeStream does not support revision filters"),

        ErrorCode.ElectionNoLeader => (GrpcCode.Unknown, "election: no leader"),
        ErrorCode.ElectionNotLeader => (GrpcCode.Unknown, "election: not leader"),
        ErrorCode.MutexSessionExpired => (GrpcCode.Unknown, "mutex: session is expired"),
        ErrorCode.MissingLeaderKey => (GrpcCode.Unknown, "\"leader\" field must be provided"),
        ErrorCode.ElectionObserveClosed => (GrpcCode.Unknown, "election: observe closed early"),

        ErrorCode.Internal => (GrpcCode.Unknown, "etcdserver: internal error"),

        // A value without a row is a bug; it must not crash a server that is answering, so it is named instead.
        _ => (GrpcCode.Unknown, "etcdserver: unlisted error"),
    };

    /// <summary>HTTP status of the gateway and plain HTTP answers for a gRPC status (gateway of 3.6).</summary>
    public static int HttpStatus(int grpcCode) => grpcCode switch
    {
        GrpcCode.Ok => 200,
        GrpcCode.Cancelled => 499,
        GrpcCode.InvalidArgument or GrpcCode.FailedPrecondition or GrpcCode.OutOfRange => 400,
        GrpcCode.DeadlineExceeded => 504,
        GrpcCode.NotFound => 404,
        GrpcCode.AlreadyExists or GrpcCode.Aborted => 409,
        GrpcCode.PermissionDenied => 403,
        GrpcCode.ResourceExhausted => 429,
        GrpcCode.Unimplemented => 501,
        GrpcCode.Unavailable => 503,
        GrpcCode.Unauthenticated => 401,
        _ => 500,
    };
}
