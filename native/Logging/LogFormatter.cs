// LogFormatter: one line in etcd's form: {"level","ts","caller","msg",fields}, or tab-separated for people. Any
// thread; allocates (log lines are cold).
using System;
using System.Buffers;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Cairn.Native.Options;

namespace Cairn.Native.Logging;

/// <summary>Makes lines.</summary>
internal sealed class LogFormatter
{
    private static readonly JsonWriterOptions JsonOptions = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        SkipValidation = true,
    };

    private readonly bool _console;
    private readonly Func<DateTimeOffset> _now;

    /// <param name="console">Tabs instead of JSON.</param>
    /// <param name="now">The time in the zone to print; null for the system's.</param>
    public LogFormatter(bool console, Func<DateTimeOffset>? now = null)
    {
        _console = console;
#pragma warning disable RS0030 // log lines carry microseconds of the wall clock, which IClock does not give
        _now = now ?? (static () => DateTimeOffset.Now);
#pragma warning restore RS0030
    }

    /// <summary>A line with its line feed, in a buffer rented from the shared pool.</summary>
    public (byte[] Buffer, int Length) Format(
        LogLevels.Level level,
        string caller,
        string message,
        IReadOnlyList<KeyValuePair<string, object?>> fields,
        Exception? error)
    {
        var bytes = new ArrayBufferWriter<byte>(512);
        string time = Timestamp(_now());
        if (_console)
        {
            string head = time + "\t" + LogLevels.Name(level) + "\t" + caller + "\t" + message;
            bytes.Write(Encoding.UTF8.GetBytes(head));
            if (fields.Count != 0 || error is not null)
            {
                bytes.Write("\t"u8);
                using var json = new Utf8JsonWriter(bytes, JsonOptions);
                json.WriteStartObject();
                WriteFields(json, fields, error);
                json.WriteEndObject();
            }
        }
        else
        {
            using var json = new Utf8JsonWriter(bytes, JsonOptions);
            json.WriteStartObject();
            json.WriteString("level", LogLevels.Name(level));
            json.WriteString("ts", time);
            json.WriteString("caller", caller);
            json.WriteString("msg", message);
            WriteFields(json, fields, error);
            json.WriteEndObject();
        }

        bytes.Write("\n"u8);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(bytes.WrittenCount);
        bytes.WrittenSpan.CopyTo(buffer);
        return (buffer, bytes.WrittenCount);
    }

    /// <summary><c>2006-01-02T15:04:05.000000Z</c>, or with an offset such as <c>+0200</c>.</summary>
    public static string Timestamp(DateTimeOffset time)
    {
        string text = time.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff", CultureInfo.InvariantCulture);
        if (time.Offset == TimeSpan.Zero)
        {
            return text + "Z";
        }

        TimeSpan offset = time.Offset.Duration();
        return text + (time.Offset < TimeSpan.Zero ? "-" : "+")
            + offset.ToString("hhmm", CultureInfo.InvariantCulture);
    }

    /// <summary>A parameter's name as a field: <c>memberId</c> becomes <c>member-id</c>.</summary>
    public static string FieldName(string name)
    {
        var text = new StringBuilder(name.Length + 4);
        for (int i = 0; i < name.Length; i++)
        {
            char c = name[i];
            if (char.IsAsciiLetterUpper(c))
            {
                if (i != 0 && !char.IsAsciiLetterUpper(name[i - 1]) && name[i - 1] != '-')
                {
                    text.Append('-');
                }

                text.Append(char.ToLowerInvariant(c));
            }
            else
            {
                text.Append(c);
            }
        }

        return text.ToString();
    }

    private static void WriteFields(Utf8JsonWriter json, IReadOnlyList<KeyValuePair<string, object?>> fields, Exception? error)
    {
        foreach (KeyValuePair<string, object?> field in fields)
        {
            if (field.Key == "{OriginalFormat}")
            {
                continue;
            }

            json.WritePropertyName(FieldName(field.Key));
            WriteValue(json, field.Value);
        }

        if (error is not null)
        {
            json.WriteString("error", error.Message);
            json.WriteString("stacktrace", error.ToString());
        }
    }

    private static void WriteValue(Utf8JsonWriter json, object? value)
    {
        switch (value)
        {
            case null:
                json.WriteNullValue();
                break;
            case string text:
                json.WriteStringValue(text);
                break;
            case bool on:
                json.WriteBooleanValue(on);
                break;
            case int number:
                json.WriteNumberValue(number);
                break;
            case uint number:
                json.WriteNumberValue(number);
                break;
            case long number:
                json.WriteNumberValue(number);
                break;
            case ulong number:
                json.WriteNumberValue(number);
                break;
            case double number when double.IsFinite(number):
                json.WriteNumberValue(number);
                break;
            case TimeSpan span:
                json.WriteStringValue(GoSyntax.FormatDuration(span.Ticks * 100));
                break;
            case IEnumerable<string> words:
                json.WriteStartArray();
                foreach (string word in words)
                {
                    json.WriteStringValue(word);
                }

                json.WriteEndArray();
                break;
            default:
                json.WriteStringValue(Convert.ToString(value, CultureInfo.InvariantCulture));
                break;
        }
    }
}
