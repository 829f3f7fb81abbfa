// RpcWords: what gRPC servers in Go say when they refuse a call: clients and their tests know these texts. Shared by the engines. Pure.
using System.Globalization;

namespace Cairn.Net.Rpc;

/// <summary>Texts beside the status codes of the transport itself.</summary>
internal static class RpcWords
{
    public const string Eof = "EOF";
    public const string UnexpectedEof = "unexpected EOF";
    public const string InternalError = "internal error";
    public const string FlagWithoutEncoding = "grpc: compressed flag set with identity or empty encoding";
    public const string BadPacking = "grpc: failed to decompress the message: unexpected EOF";

    public static string BadContentType(string type) => "invalid gRPC request content-type \"" + type + "\"";

    public static string NotPost(string method) => "Received a HEADERS frame with :method \"" + method + "\" which should be POST";

    public static string BadTimeout(string text) => "malformed grpc-timeout: " + text.Length switch
    {
        < 2 => "transport: timeout string is too short: \"" + text + "\"",
        > 9 => "transport: timeout string is too long: \"" + text + "\"",
        _ => "transport: timeout unit is not recognized: \"" + text + "\"",
    };

    public static string UnknownEncoding(string encoding)
        => "grpc: Decompressor is not installed for grpc-encoding \"" + encoding + "\"";

    public static string TooLarge(uint length, int max) => string.Create(
        CultureInfo.InvariantCulture, $"grpc: received message larger than max ({length} vs. {max})");

    public static string TooLargeUnpacked(int max) => string.Create(
        CultureInfo.InvariantCulture, $"grpc: received message after decompression larger than max {max}");

    public static string BadFlag(uint flag) => string.Create(
        CultureInfo.InvariantCulture, $"grpc: received unexpected payload format {flag}");

    /// <summary>How a call ends whose client waits no longer.</summary>
    public static (RpcCode Code, string Text) Gone(bool late)
        => late ? (RpcCode.DeadlineExceeded, "context deadline exceeded") : (RpcCode.Canceled, "context canceled");
}

/// <summary>How a stream was ended from outside.</summary>
internal sealed class CallEnd(RpcCode code, string message)
{
    /// <summary>Stands in the place of a call that has left: later ends do nothing.</summary>
    public static readonly CallEnd None = new(RpcCode.Ok, "");

    public RpcCode Code { get; } = code;

    public string Message { get; } = message;
}
