// RpcAdmission: whether a call reaches its handler, by what its headers say. The one place for both engines.
//
// Order      grpc-go's, which etcd's clients and their tests know: content type, HTTP method, timeout, path, encoding.
// Thread     any; pure. The engine fills a head from its own headers and carries the verdict out.
using System;

namespace Cairn.Net.Rpc;

/// <summary>What the headers of a request say that matters here.</summary>
internal ref struct RpcHead
{
    /// <summary>Null when absent.</summary>
    public string? ContentType;

    /// <summary>The HTTP method.</summary>
    public string HttpMethod;

    /// <summary><c>grpc-timeout</c> is there.</summary>
    public bool HasTimeout;

    /// <summary>Its value.</summary>
    public ReadOnlySpan<char> Timeout;

    /// <summary>What the table has for the path; null for none.</summary>
    public RpcMethod? Method;

    /// <summary>Why there is none.</summary>
    public string WhyNoMethod;

    /// <summary><c>grpc-encoding</c>; null when absent.</summary>
    public string? Encoding;
}

/// <summary>What becomes of a call.</summary>
internal readonly struct RpcVerdict
{
    /// <summary>The handler is to run; the other fields of a refusal mean nothing then.</summary>
    public bool IsAdmitted { get; init; }

    /// <summary>Of a refusal.</summary>
    public int HttpStatus { get; init; }

    /// <summary>Of a refusal.</summary>
    public RpcCode Code { get; init; }

    /// <summary>Of a refusal.</summary>
    public string Message { get; init; }

    /// <summary>Monotonic ns; <see cref="long.MaxValue"/> for none.</summary>
    public long DeadlineNs { get; init; }

    /// <summary>Messages may come packed, and the answers are.</summary>
    public bool IsGzip { get; init; }

    /// <summary>The content type to answer with; null for the plain one.</summary>
    public string? EchoedType { get; init; }
}

/// <summary>Judges heads.</summary>
internal static class RpcAdmission
{
    /// <summary>The content type of answers.</summary>
    public const string ContentType = "application/grpc";

    /// <param name="head">The request.</param>
    /// <param name="receivedNs">When it was read (monotonic).</param>
    public static RpcVerdict Judge(scoped in RpcHead head, long receivedNs)
    {
        string type = head.ContentType ?? "";
        if (!RpcText.IsGrpcContentType(type))
        {
            return Refuse(415, RpcCode.InvalidArgument, RpcWords.BadContentType(type));
        }

        if (head.HttpMethod != "POST")
        {
            return Refuse(405, RpcCode.Internal, RpcWords.NotPost(head.HttpMethod));
        }

        long deadlineNs = long.MaxValue;
        if (head.HasTimeout)
        {
            if (!RpcText.TryParseTimeout(head.Timeout, out long timeoutNs))
            {
                return Refuse(400, RpcCode.Internal, RpcWords.BadTimeout(head.Timeout.ToString()));
            }

            deadlineNs = receivedNs + timeoutNs;
        }

        if (head.Method is null)
        {
            return Refuse(200, RpcCode.Unimplemented, head.WhyNoMethod);
        }

        bool gzip = head.Encoding == "gzip";
        if (head.Encoding is not null && !gzip && head.Encoding != "identity")
        {
            return Refuse(200, RpcCode.Unimplemented, RpcWords.UnknownEncoding(head.Encoding));
        }

        // grpc-go echoes the sub-type ("application/grpc+proto"); parameters after ';' are not echoed.
        bool echoes = type.Length > ContentType.Length && type[ContentType.Length] == '+';
        return new RpcVerdict { IsAdmitted = true, DeadlineNs = deadlineNs, IsGzip = gzip, EchoedType = echoes ? type : null };
    }

    private static RpcVerdict Refuse(int httpStatus, RpcCode code, string message)
        => new() { HttpStatus = httpStatus, Code = code, Message = message, DeadlineNs = long.MaxValue };
}
