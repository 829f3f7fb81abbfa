// RpcCode: the status numbers of gRPC. Source: https://grpc.io/docs/guides/status-codes
namespace Cairn.Net.Rpc;

/// <summary>How a call ended, as sent in <c>grpc-status</c>.</summary>
public enum RpcCode
{
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// <summary>Names of the codes as Go prints them, which is what the metrics carry.</summary>
public static class RpcCodes
{
    /// <summary>One past the largest code.</summary>
    public const int Count = 17;

    private static readonly string[] Numbers =
    [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    ];

    private static readonly string[] Names =
    [
        "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
        "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
        "Internal", "Unavailable", "DataLoss", "Unauthenticated",
    ];

    /// <summary>The decimal number as a shared string.</summary>
    public static string Number(RpcCode code) => Numbers[(int)code];

    /// <summary>The name in a <c>grpc_code</c> label.</summary>
    public static string Name(RpcCode code) => Names[(int)code];
}
